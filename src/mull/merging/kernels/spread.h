/* The standard deviation over the models; methods/sce.py has the same in torch. */

#include "common.h"

INLINE void spread_of(int models, double (*delta)[LANES], float *size) {
    double many = models;
    for (int i = 0; i < LANES; i++) {
        double sum = delta[0][i], squares = 0;
        for (int m = 1; m < models; m++) sum += delta[m][i];
        double mean = sum / many;
        for (int m = 0; m < models; m++) {
            double off = delta[m][i] - mean;
            squares = m ? squares + off * off : off * off;
        }
        size[i] = (float)sqrt(squares / many);
    }
}

/* Two numbers lie half their distance from their mean. */
INLINE void spread_of_two(double (*delta)[LANES], float *size) {
    for (int i = 0; i < LANES; i++) size[i] = (float)(fabs(delta[0][i] - delta[1][i]) * 0.5);
}

/* Of LANES elements the base, the differences from it and their standard deviation. */
INLINE void spread(const Inputs *in, Py_ssize_t start, Py_ssize_t length, double *base, double (*delta)[LANES],
                   float *size) {
    static const uint16_t zeros[LANES];
    uint16_t spare[LANES];
    const uint16_t *from = in->base ? whole(in->base + start, length, spare) : zeros;
    for (int i = 0; i < LANES; i++) base[i] = (double)widen(from[i]);
    for (int m = 0; m < in->models; m++) {
        from = whole(in->model[m] + start, length, spare);
        for (int i = 0; i < LANES; i++) delta[m][i] = (double)widen(from[i]) - base[i];
    }
    if (in->models == 2) spread_of_two(delta, size);
    else if (in->models == 3) spread_of(3, delta, size); /* a constant number unrolls */
    else spread_of(in->models, delta, size);
}
