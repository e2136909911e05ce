/* TIES' election and disjoint merge on CHUNK elements; operations.merge_agreeing has the same in torch. */

#include "common.h"

/* On entry `sum` holds the numbers whose signs are elected (0 and -0 count as positive). On return it holds, for each
 * element, the sum over the models of the deltas that have this sign; with `mean` their sum divided by the sum of their
 * weights (or undivided where that is 0). `delta` has a row of CHUNK elements for each model. Where `sum` was NaN or
 * infinite the result is NaN. */
INLINE void elect(double *sum, double (*delta)[CHUNK], int model_count, const double *weights, int mean) {
    double sign[CHUNK], weight[CHUNK];
    for (int i = 0; i < CHUNK; i++) {
        sign[i] = sum[i] >= 0 ? 1.0 : -1.0;
        sum[i] *= 0.0; /* 0, but NaN stays NaN */
        weight[i] = 0.0;
    }
    for (int model = 0; model < model_count; model++) {
        double own_weight = weights[model], *delta_of_model = delta[model];
        for (int i = 0; i < CHUNK; i++) {
            double agreeing = delta_of_model[i] * sign[i];
            sum[i] += agreeing > 0 ? delta_of_model[i] : 0.0;
            weight[i] += agreeing > 0 ? own_weight : 0.0;
        }
    }
    if (mean)
        for (int i = 0; i < CHUNK; i++) sum[i] = weight[i] != 0 ? sum[i] / weight[i] : sum[i];
}
