/* Inner products of the models' differences from the base, for angles.py. */

#include "sums.h"

#define PAIRS (MAX_MODELS * (MAX_MODELS + 1) / 2)

/* add_products (sums.h) for the three pairs of two models at once: left·left, left·right, right·right. */
INLINE void add_products_of_two(double (*sums)[PARTIAL_SUMS], const float *left, const float *right,
                                const float *base) {
    for (int j = 0; j < PARTIAL_SUMS; j++) {
        double left_left = sums[0][j], left_right = sums[1][j], right_right = sums[2][j];
#pragma GCC unroll 8
        for (int i = j; i < CHUNK; i += PARTIAL_SUMS) {
            double left_delta = (double)left[i] - (double)base[i], right_delta = (double)right[i] - (double)base[i];
            left_left += left_delta * left_delta;
            left_right += left_delta * right_delta;
            right_right += right_delta * right_delta;
        }
        sums[0][j] = left_left;
        sums[1][j] = left_right;
        sums[2][j] = right_right;
    }
}

/* For each row of `length` elements the inner product of each pair of models, after the base has been subtracted from
 * both. `out` gets one row of pairs for each row: (0, 0), (0, 1), ..., (1, 1), .... The number of elements is a
 * multiple of `length`. NaN or infinity in a row gives NaN or infinity in its products. */
INLINE void products_any(const Inputs *inputs, Py_ssize_t length, double *out) {
    double sums[PAIRS][PARTIAL_SUMS], value[MAX_MODELS][CHUNK];
    float base[CHUNK], two[2][CHUNK];
    uint16_t spare[CHUNK];
    int model_count = inputs->model_count, pairs = model_count * (model_count + 1) / 2;
    for (Py_ssize_t row = 0; row < inputs->count; row += length, out += pairs) {
        memset(sums, 0, (size_t)pairs * sizeof *sums);
        for (Py_ssize_t start = row; start < row + length; start += CHUNK) {
            Py_ssize_t rest = row + length - start;
            const uint16_t *from = inputs->base ? padded_chunk(inputs->base + start, rest, spare) : NULL;
            for (int i = 0; i < CHUNK; i++) base[i] = from ? from_bfloat16(from[i]) : 0.0f;
            for (int model = 0; model < model_count; model++) {
                from = padded_chunk(inputs->models[model] + start, rest, spare);
                if (model_count == 2)
                    for (int i = 0; i < CHUNK; i++) two[model][i] = from_bfloat16(from[i]);
                else
                    for (int i = 0; i < CHUNK; i++) value[model][i] = (double)from_bfloat16(from[i]) - (double)base[i];
            }
            if (model_count == 2) {
                add_products_of_two(sums, two[0], two[1], base);
            } else {
                double (*next)[PARTIAL_SUMS] = sums;
                for (int model = 0; model < model_count; model++)
                    for (int other_model = model; other_model < model_count; other_model++)
                        add_products(*next++, value[model], value[other_model]);
            }
        }
        for (int pair = 0; pair < pairs; pair++) out[pair] = total_of(sums[pair]);
    }
}

VARIANTS(products, (const Inputs *inputs, Py_ssize_t length, double *out), (inputs, length, out))

PyObject *products(PyObject *self, PyObject *args) {
    PyObject *models, *base, *result = NULL;
    Py_ssize_t length;
    Py_buffer out;
    Inputs inputs;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOnw*", &models, &base, &length, &out)) return NULL;
    if (open_inputs(&inputs, models, base)) {
        Py_ssize_t pairs = inputs.model_count * (inputs.model_count + 1) / 2;
        if (length < 1 || inputs.count % length ||
            out.len != inputs.count / length * pairs * (Py_ssize_t)sizeof(double)) {
            PyErr_SetString(PyExc_ValueError, "rows, pairs of models and out differ in number");
        } else {
            Py_BEGIN_ALLOW_THREADS;
            DISPATCH(products)(&inputs, length, out.buf);
            Py_END_ALLOW_THREADS;
            Py_INCREF(Py_None);
            result = Py_None;
        }
    }
    close_inputs(&inputs);
    PyBuffer_Release(&out);
    return result;
}
