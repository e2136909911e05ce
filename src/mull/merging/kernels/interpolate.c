/* The straight line between two tensors. */

#include "common.h"

#define BLOCK 1024 /* elements that wait in the first-level cache, so that the result may overwrite an input */

/* near + (high + low)(far - near), as interpolation.py explains it, rounded to bfloat16 once. */
INLINE uint16_t mix(uint16_t near, uint16_t far, float high, float low) {
    float start = widen(near), difference = widen(far) - start;
    return narrow(fmaf(low, difference, fmaf(high, difference, start)));
}

INLINE void interpolate_any(const uint16_t *near, const uint16_t *far, void *out, Py_ssize_t count, float high,
                            float low, int wide) {
    uint16_t halves[BLOCK];
    float floats[BLOCK];
    for (Py_ssize_t start = 0; start < count; start += BLOCK) {
        Py_ssize_t length = shorter(count - start, BLOCK);
        if (wide) {
            for (Py_ssize_t i = 0; i < length; i++) floats[i] = widen(mix(near[start + i], far[start + i], high, low));
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
        BEST(interpolate)(near.buf, far.buf, out.buf, count, (float)high, (float)low, wide);
        Py_END_ALLOW_THREADS;
        Py_INCREF(Py_None);
        result = Py_None;
    }
    PyBuffer_Release(&near);
    PyBuffer_Release(&far);
    PyBuffer_Release(&out);
    return result;
}
