/* SCE: select, calculate, erase. methods/sce.py explains the steps and has the same in torch. In both kernels `least`
 * is the smallest standard deviation over the models that is selected. */

#include "election.h"
#include "spread.h"
#include "sums.h"

/* Sets the differences of the elements that are not selected to 0. NaN and infinity become NaN there. */
INLINE void select_chunk(int model_count, double (*delta)[CHUNK], const float *size, float least) {
    for (int model = 0; model < model_count; model++)
        for (int i = 0; i < CHUNK; i++) delta[model][i] *= size[i] >= least ? 1.0 : 0.0;
}

/* For each model the sum of the squared differences from the base over the selected elements, in the order of
 * sums.h. */
INLINE void squares_any(const Inputs *inputs, float least, double *out) {
    double base[CHUNK], delta[MAX_MODELS][CHUNK], sums[MAX_MODELS][PARTIAL_SUMS] = {0};
    float size[CHUNK];
    for (Py_ssize_t start = 0; start < inputs->count; start += CHUNK) {
        load_and_spread(inputs, start, inputs->count - start, base, delta, size);
        select_chunk(inputs->model_count, delta, size, least);
        for (int model = 0; model < inputs->model_count; model++) add_products(sums[model], delta[model], delta[model]);
    }
    for (int model = 0; model < inputs->model_count; model++) out[model] = total_of(sums[model]);
}

/* Merges the selected elements: the sign is elected by the differences, the mean is weighted. Elements that are not
 * selected keep the base's value. `out` must not overlap an input. */
INLINE void fuse_any(const Inputs *inputs, uint16_t *out, float least, const double *weights, double scale) {
    double base[CHUNK], delta[MAX_MODELS][CHUNK], sum[CHUNK];
    float size[CHUNK];
    uint16_t spare[CHUNK];
    for (Py_ssize_t start = 0; start < inputs->count; start += CHUNK) {
        Py_ssize_t length = min_length(inputs->count - start, CHUNK);
        uint16_t *to = length < CHUNK ? spare : out + start;
        load_and_spread(inputs, start, length, base, delta, size);
        select_chunk(inputs->model_count, delta, size, least);
        for (int i = 0; i < CHUNK; i++) sum[i] = delta[0][i];
        for (int model = 1; model < inputs->model_count; model++)
            for (int i = 0; i < CHUNK; i++) sum[i] += delta[model][i];
        for (int model = 0; model < inputs->model_count; model++)
            for (int i = 0; i < CHUNK; i++) delta[model][i] *= weights[model];
        elect(sum, delta, inputs->model_count, weights, 1);
        for (int i = 0; i < CHUNK; i++) to[i] = to_bfloat16((float)(base[i] + scale * sum[i]));
        if (length < CHUNK) memcpy(out + start, spare, (size_t)length * sizeof(uint16_t));
    }
}

VARIANTS(squares, (const Inputs *inputs, float least, double *out), (inputs, least, out))
VARIANTS(fuse, (const Inputs *inputs, uint16_t *out, float least, const double *weights, double scale),
         (inputs, out, least, weights, scale))

PyObject *squares(PyObject *self, PyObject *args) {
    PyObject *models, *base, *result = NULL;
    float least;
    Py_buffer out;
    Inputs inputs;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOfw*", &models, &base, &least, &out)) return NULL;
    if (open_inputs(&inputs, models, base)) {
        if (out.len != inputs.model_count * (Py_ssize_t)sizeof(double)) {
            PyErr_SetString(PyExc_ValueError, "one sum for each model is needed");
        } else {
            Py_BEGIN_ALLOW_THREADS;
            DISPATCH(squares)(&inputs, least, out.buf);
            Py_END_ALLOW_THREADS;
            Py_INCREF(Py_None);
            result = Py_None;
        }
    }
    close_inputs(&inputs);
    PyBuffer_Release(&out);
    return result;
}

PyObject *fuse(PyObject *self, PyObject *args) {
    PyObject *models, *base, *weights, *result = NULL;
    double weight[MAX_MODELS], scale;
    float least;
    Py_buffer out;
    Inputs inputs;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOw*fOd", &models, &base, &out, &least, &weights, &scale)) return NULL;
    if (open_inputs(&inputs, models, base) && read_numbers(weights, inputs.model_count, weight)) {
        if (out.len != 2 * inputs.count) {
            PyErr_SetString(PyExc_ValueError, "models and out differ in length");
        } else {
            Py_BEGIN_ALLOW_THREADS;
            DISPATCH(fuse)(&inputs, out.buf, least, weight, scale);
            Py_END_ALLOW_THREADS;
            Py_INCREF(Py_None);
            result = Py_None;
        }
    }
    close_inputs(&inputs);
    PyBuffer_Release(&out);
    return result;
}
