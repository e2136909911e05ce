/* TIES' election and disjoint merge on LANES elements; operations.merge_agreeing has the same in torch. */

#include "common.h"

/* `sum` holds what the sign is taken of; it becomes the sum, or the mean by `weights`, of what has that sign. */
INLINE void elect(double *sum, double (*delta)[LANES], int models, const double *weights, int mean) {
    double sign[LANES], weight[LANES];
    for (int i = 0; i < LANES; i++) {
        sign[i] = sum[i] >= 0 ? 1.0 : -1.0;
        sum[i] *= 0.0; /* NaN stays */
        weight[i] = 0.0;
    }
    for (int m = 0; m < models; m++) {
        double own = weights[m], *d = delta[m];
        for (int i = 0; i < LANES; i++) {
            double agreeing = d[i] * sign[i];
            sum[i] += agreeing > 0 ? d[i] : 0.0;
            weight[i] += agreeing > 0 ? own : 0.0;
        }
    }
    if (mean)
        for (int i = 0; i < LANES; i++) sum[i] = weight[i] != 0 ? sum[i] / weight[i] : sum[i];
}
