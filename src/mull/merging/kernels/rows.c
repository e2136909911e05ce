/* Two models, each row with factors of its own, for methods/slerp.py. */

#include "common.h"

INLINE void mix_rows_any(const Inputs *in, Py_ssize_t length, const double *factors, uint16_t *out) {
    uint16_t spare[3][LANES];
    float result[LANES];
    for (Py_ssize_t row = 0; row < in->count; row += length, factors += 2) {
        double left = factors[0], right = factors[1];
        for (Py_ssize_t start = row; start < row + length; start += LANES) {
            Py_ssize_t rest = shorter(row + length - start, LANES);
            const uint16_t *first = whole(in->model[0] + start, rest, spare[0]);
            const uint16_t *second = whole(in->model[1] + start, rest, spare[1]);
            uint16_t *to = rest < LANES ? spare[0] : out + start;
            if (in->base) {
                const uint16_t *base = whole(in->base + start, rest, spare[2]);
                for (int i = 0; i < LANES; i++) {
                    double origin = (double)widen(base[i]);
                    double x = (double)widen(first[i]) - origin, y = (double)widen(second[i]) - origin;
                    result[i] = (float)(x * left + y * right + origin);
                }
            } else {
                for (int i = 0; i < LANES; i++)
                    result[i] = (float)((double)widen(first[i]) * left + (double)widen(second[i]) * right);
            }
            for (int i = 0; i < LANES; i++) to[i] = narrow(result[i]);
            if (rest < LANES) memcpy(out + start, to, (size_t)rest * sizeof(uint16_t));
        }
    }
}

VARIANTS(mix_rows, (const Inputs *in, Py_ssize_t length, const double *factors, uint16_t *out),
         (in, length, factors, out))

PyObject *mix_rows(PyObject *self, PyObject *args) {
    PyObject *models, *base, *result = NULL;
    Py_ssize_t length;
    Py_buffer factors, out;
    Inputs in;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOny*w*", &models, &base, &length, &factors, &out)) return NULL;
    if (open_inputs(&in, models, base)) {
        if (in.models != 2 || out.len != 2 * in.count || length < 1 || in.count % length ||
            factors.len != in.count / length * 2 * (Py_ssize_t)sizeof(double)) {
            PyErr_SetString(PyExc_ValueError, "two models are needed, or rows, factors and out differ in number");
        } else {
            Py_BEGIN_ALLOW_THREADS;
            BEST(mix_rows)(&in, length, factors.buf, out.buf);
            Py_END_ALLOW_THREADS;
            Py_INCREF(Py_None);
            result = Py_None;
        }
    }
    close_inputs(&in);
    PyBuffer_Release(&factors);
    PyBuffer_Release(&out);
    return result;
}
