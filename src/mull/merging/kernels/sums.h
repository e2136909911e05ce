/* Sums in an order that angles.ordered_sums repeats. */

#include "common.h"

#define SUMS 32 /* partial sums, interleaved */

/* Adds the products of LANES elements to their partial sums, one after the other; these stay in registers. */
INLINE void add_products(double *sums, const double *left, const double *right) {
    for (int j = 0; j < SUMS; j++) {
        double sum = sums[j];
#pragma GCC unroll 8
        for (int i = j; i < LANES; i += SUMS) sum += left[i] * right[i];
        sums[j] = sum;
    }
}

/* Adds them half to half. */
INLINE double total_of(double *sums) {
    for (int half = SUMS / 2; half; half /= 2)
        for (int i = 0; i < half; i++) sums[i] += sums[i + half];
    return sums[0];
}
