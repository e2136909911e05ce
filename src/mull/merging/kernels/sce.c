/* SCE: select, calculate, erase; methods/sce.py explains the steps. */

#include "election.h"
#include "spread.h"
#include "sums.h"

/* The differences of what is selected; NaN and infinity stay NaN where they are not. */
INLINE void select_lanes(int models, double (*delta)[LANES], const float *size, float least) {
    for (int m = 0; m < models; m++)
        for (int i = 0; i < LANES; i++) delta[m][i] *= size[i] >= least ? 1.0 : 0.0;
}

INLINE void squares_any(const Inputs *in, float least, double *out) {
    double base[LANES], delta[MODELS][LANES], sums[MODELS][SUMS] = {0};
    float size[LANES];
    for (Py_ssize_t start = 0; start < in->count; start += LANES) {
        spread(in, start, in->count - start, base, delta, size);
        select_lanes(in->models, delta, size, least);
        for (int m = 0; m < in->models; m++) add_products(sums[m], delta[m], delta[m]);
    }
    for (int m = 0; m < in->models; m++) out[m] = total_of(sums[m]);
}

INLINE void fuse_any(const Inputs *in, uint16_t *out, float least, const double *weights, double scale) {
    double base[LANES], delta[MODELS][LANES], sum[LANES];
    float size[LANES];
    uint16_t spare[LANES];
    for (Py_ssize_t start = 0; start < in->count; start += LANES) {
        Py_ssize_t length = shorter(in->count - start, LANES);
        uint16_t *to = length < LANES ? spare : out + start;
        spread(in, start, length, base, delta, size);
        select_lanes(in->models, delta, size, least);
        for (int i = 0; i < LANES; i++) sum[i] = delta[0][i];
        for (int m = 1; m < in->models; m++)
            for (int i = 0; i < LANES; i++) sum[i] += delta[m][i];
        for (int m = 0; m < in->models; m++)
            for (int i = 0; i < LANES; i++) delta[m][i] *= weights[m];
        elect(sum, delta, in->models, weights, 1);
        for (int i = 0; i < LANES; i++) to[i] = narrow((float)(base[i] + scale * sum[i]));
        if (length < LANES) memcpy(out + start, spare, (size_t)length * sizeof(uint16_t));
    }
}

VARIANTS(squares, (const Inputs *in, float least, double *out), (in, least, out))
VARIANTS(fuse, (const Inputs *in, uint16_t *out, float least, const double *weights, double scale),
         (in, out, least, weights, scale))

PyObject *squares(PyObject *self, PyObject *args) {
    PyObject *models, *base, *result = NULL;
    float least;
    Py_buffer out;
    Inputs in;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOfw*", &models, &base, &least, &out)) return NULL;
    if (open_inputs(&in, models, base)) {
        if (out.len != in.models * (Py_ssize_t)sizeof(double)) {
            PyErr_SetString(PyExc_ValueError, "one sum for each model is needed");
        } else {
            Py_BEGIN_ALLOW_THREADS;
            BEST(squares)(&in, least, out.buf);
            Py_END_ALLOW_THREADS;
            Py_INCREF(Py_None);
            result = Py_None;
        }
    }
    close_inputs(&in);
    PyBuffer_Release(&out);
    return result;
}

PyObject *fuse(PyObject *self, PyObject *args) {
    PyObject *models, *base, *weights, *result = NULL;
    double weight[MODELS], scale;
    float least;
    Py_buffer out;
    Inputs in;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOw*fOd", &models, &base, &out, &least, &weights, &scale)) return NULL;
    if (open_inputs(&in, models, base) && numbers(weights, in.models, weight)) {
        if (out.len != 2 * in.count) {
            PyErr_SetString(PyExc_ValueError, "models and out differ in length");
        } else {
            Py_BEGIN_ALLOW_THREADS;
            BEST(fuse)(&in, out.buf, least, weight, scale);
            Py_END_ALLOW_THREADS;
            Py_INCREF(Py_None);
            result = Py_None;
        }
    }
    close_inputs(&in);
    PyBuffer_Release(&out);
    return result;
}
