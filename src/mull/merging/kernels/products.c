/* Inner products, for angles.py. */

#include "sums.h"

#define PAIRS (MODELS * (MODELS + 1) / 2)

/* The same for all pairs of two models at once. */
INLINE void add_products_of_two(double (*sums)[SUMS], const float *left, const float *right, const float *base) {
    for (int j = 0; j < SUMS; j++) {
        double own = sums[0][j], mixed = sums[1][j], other = sums[2][j];
#pragma GCC unroll 8
        for (int i = j; i < LANES; i += SUMS) {
            double x = (double)left[i] - (double)base[i], y = (double)right[i] - (double)base[i];
            own += x * x;
            mixed += x * y;
            other += y * y;
        }
        sums[0][j] = own;
        sums[1][j] = mixed;
        sums[2][j] = other;
    }
}

/* For each row of `length` elements the products of each pair of models, less the base. */
INLINE void products_any(const Inputs *in, Py_ssize_t length, double *out) {
    double sums[PAIRS][SUMS], value[MODELS][LANES];
    float base[LANES], two[2][LANES];
    uint16_t spare[LANES];
    int models = in->models, pairs = models * (models + 1) / 2;
    for (Py_ssize_t row = 0; row < in->count; row += length, out += pairs) {
        memset(sums, 0, (size_t)pairs * sizeof *sums);
        for (Py_ssize_t start = row; start < row + length; start += LANES) {
            Py_ssize_t rest = row + length - start;
            const uint16_t *from = in->base ? whole(in->base + start, rest, spare) : NULL;
            for (int i = 0; i < LANES; i++) base[i] = from ? widen(from[i]) : 0.0f;
            for (int m = 0; m < models; m++) {
                from = whole(in->model[m] + start, rest, spare);
                if (models == 2) for (int i = 0; i < LANES; i++) two[m][i] = widen(from[i]);
                else for (int i = 0; i < LANES; i++) value[m][i] = (double)widen(from[i]) - (double)base[i];
            }
            if (models == 2) {
                add_products_of_two(sums, two[0], two[1], base);
            } else {
                double (*own)[SUMS] = sums;
                for (int m = 0; m < models; m++)
                    for (int n = m; n < models; n++) add_products(*own++, value[m], value[n]);
            }
        }
        for (int p = 0; p < pairs; p++) out[p] = total_of(sums[p]);
    }
}

VARIANTS(products, (const Inputs *in, Py_ssize_t length, double *out), (in, length, out))

PyObject *products(PyObject *self, PyObject *args) {
    PyObject *models, *base, *result = NULL;
    Py_ssize_t length;
    Py_buffer out;
    Inputs in;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOnw*", &models, &base, &length, &out)) return NULL;
    if (open_inputs(&in, models, base)) {
        Py_ssize_t pairs = in.models * (in.models + 1) / 2;
        if (length < 1 || in.count % length || out.len != in.count / length * pairs * (Py_ssize_t)sizeof(double)) {
            PyErr_SetString(PyExc_ValueError, "rows, pairs of models and out differ in number");
        } else {
            Py_BEGIN_ALLOW_THREADS;
            BEST(products)(&in, length, out.buf);
            Py_END_ALLOW_THREADS;
            Py_INCREF(Py_None);
            result = Py_None;
        }
    }
    close_inputs(&in);
    PyBuffer_Release(&out);
    return result;
}
