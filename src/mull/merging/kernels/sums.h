/* Sums of products in a fixed order, so that angles.ordered_sums (numpy) gives the same bits: element i is added to
 * partial sum i mod 32, and then the second half of the partial sums is added to the first until one is left. */

#include "common.h"

#define PARTIAL_SUMS 32

/* Adds left[i] * right[i] of CHUNK elements to the partial sums. The inner loop runs over the elements of one partial
 * sum, so that it stays in a register. `left` and `right` may be the same array. */
INLINE void add_products(double *sums, const double *left, const double *right) {
    for (int j = 0; j < PARTIAL_SUMS; j++) {
        double sum = sums[j];
#pragma GCC unroll 8
        for (int i = j; i < CHUNK; i += PARTIAL_SUMS) sum += left[i] * right[i];
        sums[j] = sum;
    }
}

/* The sum of the partial sums. Overwrites them. */
INLINE double total_of(double *sums) {
    for (int half = PARTIAL_SUMS / 2; half; half /= 2)
        for (int i = 0; i < half; i++) sums[i] += sums[i + half];
    return sums[0];
}
