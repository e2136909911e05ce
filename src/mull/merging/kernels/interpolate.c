/* Linear interpolation between two tensors; arithmetic/interpolation.py explains the arithmetic. */

#include "common.h"

#define BLOCK 1024 /* elements computed before any of them is written, so that `out` may be one of the inputs */

/* near + (high + low)(far - near) with two fused multiply-adds in float; the result is then rounded to bfloat16. */
INLINE uint16_t mix(uint16_t near, uint16_t far, float high, float low) {
    float start = from_bfloat16(near), difference = from_bfloat16(far) - start;
    return to_bfloat16(fmaf(low, difference, fmaf(high, difference, start)));
}

/* Interpolates `count` elements, any number. `out` holds bfloat16, or, if `wide`, the same values as floats. It may be
 * `near` or `far` (then not wide), but must not overlap them in another way. high + low is the weight of `far`. NaN in
 * an input gives NaN. */
INLINE void interpolate_any(const uint16_t *near, const uint16_t *far, void *out, Py_ssize_t count, float high,
                            float low, int wide) {
    uint16_t halves[BLOCK];
    float floats[BLOCK];
    for (Py_ssize_t start = 0; start < count; start += BLOCK) {
        Py_ssize_t length = min_length(count - start, BLOCK);
        if (wide) {
            for (Py_ssize_t i = 0; i < length; i++)
                floats[i] = from_bfloat16(mix(near[start + i], far[start + i], high, low));
            memcpy((float *)out + start, floats, (size_t)length * sizeof(float));
        } else {
            for (Py_ssize_t i = 0; i < length; i++) halves[i] = mix(near[start + i], far[start + i], high, low);
            memcpy((uint16_t *)out + start, halves, (size_t)length * sizeof(uint16_t));
        }
    }
}

VARIANTS(interpolate, (const uint16_t *near, const uint16_t *far, void *out, Py_ssize_t count, float high, float low,
                       int wide), (near, far, out, count, high, low, wide))

PyObject *interpolate(PyObject *self, PyObject *args) {
    Py_buffer near, far, out;
    double high, low;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*w*dd", &near, &far, &out, &high, &low)) return NULL;
    Py_ssize_t count = near.len / 2;
    int wide = out.len == 4 * count && count;
    PyObject *result = NULL;
    if (near.len != 2 * count || far.len != near.len || (!wide && out.len != near.len)) {
        PyErr_SetString(PyExc_ValueError, "near, far and out differ in length");
    } else {
        Py_BEGIN_ALLOW_THREADS;
        DISPATCH(interpolate)(near.buf, far.buf, out.buf, count, (float)high, (float)low, wide);
        Py_END_ALLOW_THREADS;
        Py_INCREF(Py_None);
        result = Py_None;
    }
    PyBuffer_Release(&near);
    PyBuffer_Release(&far);
    PyBuffer_Release(&out);
    return result;
}
