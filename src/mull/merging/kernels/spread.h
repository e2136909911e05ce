/* For each element, the (population) standard deviation over the models; methods/sce.py has the same in torch. */

#include "common.h"

/* Standard deviations of CHUNK elements, rounded to float. `delta` holds one row for each model. NaN in any model gives
 * NaN. */
INLINE void spread_of(int model_count, double (*delta)[CHUNK], float *size) {
    double number = model_count;
    for (int i = 0; i < CHUNK; i++) {
        double sum = delta[0][i], squares = 0;
        for (int model = 1; model < model_count; model++) sum += delta[model][i];
        double mean = sum / number;
        for (int model = 0; model < model_count; model++) {
            double deviation = delta[model][i] - mean;
            squares = model ? squares + deviation * deviation : deviation * deviation;
        }
        size[i] = (float)sqrt(squares / number);
    }
}

/* The same for two models: two numbers lie half their distance from their mean. */
INLINE void spread_of_two(double (*delta)[CHUNK], float *size) {
    for (int i = 0; i < CHUNK; i++) size[i] = (float)(fabs(delta[0][i] - delta[1][i]) * 0.5);
}

/* Loads the elements from `start` on: fills `base`, `delta` (model - base, a row for each model) and `size` (the
 * standard deviation of the differences) with CHUNK values each. Where fewer than CHUNK elements are left, the rest is
 * computed from zeros. */
INLINE void load_and_spread(const Inputs *inputs, Py_ssize_t start, Py_ssize_t length, double *base,
                            double (*delta)[CHUNK], float *size) {
    static const uint16_t zeros[CHUNK];
    uint16_t spare[CHUNK];
    const uint16_t *from = inputs->base ? padded_chunk(inputs->base + start, length, spare) : zeros;
    for (int i = 0; i < CHUNK; i++) base[i] = (double)from_bfloat16(from[i]);
    for (int model = 0; model < inputs->model_count; model++) {
        from = padded_chunk(inputs->models[model] + start, length, spare);
        for (int i = 0; i < CHUNK; i++) delta[model][i] = (double)from_bfloat16(from[i]) - base[i];
    }
    if (inputs->model_count == 2) spread_of_two(delta, size);
    else if (inputs->model_count == 3) spread_of(3, delta, size); /* with a constant count the loop is unrolled */
    else spread_of(inputs->model_count, delta, size);
}
