/* Weighted sums of the rows of two models, for methods/slerp.py. */

#include "common.h"

/* Each row of `length` elements has two factors, left and right. Computes left (first - base) + right (second - base)
 * + base in double, rounded to float and then to bfloat16; without a base left first + right second. The number of
 * elements is a multiple of `length`; `out` must not overlap an input. NaN in an input gives NaN. */
INLINE void mix_rows_any(const Inputs *inputs, Py_ssize_t length, const double *factors, uint16_t *out) {
    uint16_t spare[3][CHUNK];
    float result[CHUNK];
    for (Py_ssize_t row = 0; row < inputs->count; row += length, factors += 2) {
        double left = factors[0], right = factors[1];
        for (Py_ssize_t start = row; start < row + length; start += CHUNK) {
            Py_ssize_t rest = min_length(row + length - start, CHUNK);
            const uint16_t *first = padded_chunk(inputs->models[0] + start, rest, spare[0]);
            const uint16_t *second = padded_chunk(inputs->models[1] + start, rest, spare[1]);
            uint16_t *to = rest < CHUNK ? spare[0] : out + start;
            if (inputs->base) {
                const uint16_t *base = padded_chunk(inputs->base + start, rest, spare[2]);
                for (int i = 0; i < CHUNK; i++) {
                    double origin = (double)from_bfloat16(base[i]);
                    double left_delta = (double)from_bfloat16(first[i]) - origin;
                    double right_delta = (double)from_bfloat16(second[i]) - origin;
                    result[i] = (float)(left_delta * left + right_delta * right + origin);
                }
            } else {
                for (int i = 0; i < CHUNK; i++) {
                    double left_value = (double)from_bfloat16(first[i]), right_value = (double)from_bfloat16(second[i]);
                    result[i] = (float)(left_value * left + right_value * right);
                }
            }
            for (int i = 0; i < CHUNK; i++) to[i] = to_bfloat16(result[i]);
            if (rest < CHUNK) memcpy(out + start, to, (size_t)rest * sizeof(uint16_t));
        }
    }
}

VARIANTS(mix_rows, (const Inputs *inputs, Py_ssize_t length, const double *factors, uint16_t *out),
         (inputs, length, factors, out))

PyObject *mix_rows(PyObject *self, PyObject *args) {
    PyObject *models, *base, *result = NULL;
    Py_ssize_t length;
    Py_buffer factors, out;
    Inputs inputs;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOny*w*", &models, &base, &length, &factors, &out)) return NULL;
    if (open_inputs(&inputs, models, base)) {
        if (inputs.model_count != 2 || out.len != 2 * inputs.count || length < 1 || inputs.count % length ||
            factors.len != inputs.count / length * 2 * (Py_ssize_t)sizeof(double)) {
            PyErr_SetString(PyExc_ValueError, "two models are needed, or rows, factors and out differ in number");
        } else {
            Py_BEGIN_ALLOW_THREADS;
            DISPATCH(mix_rows)(&inputs, length, factors.buf, out.buf);
            Py_END_ALLOW_THREADS;
            Py_INCREF(Py_None);
            result = Py_None;
        }
    }
    close_inputs(&inputs);
    PyBuffer_Release(&factors);
    PyBuffer_Release(&out);
    return result;
}
