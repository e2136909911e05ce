/* Looks for NaN and infinity; streaming/finite.py has the same in numpy, in two passes. */

#include "common.h"

/* Sets `largest` to the largest of the numbers without their sign bits. */
INLINE void largest_size_any(const uint16_t *values, Py_ssize_t count, uint16_t *largest) {
    uint16_t found = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint16_t size = values[i] & 0x7FFF;
        found = found > size ? found : size;
    }
    *largest = found;
}

VARIANTS(largest_size, (const uint16_t *values, Py_ssize_t count, uint16_t *largest), (values, count, largest))

PyObject *all_below(PyObject *self, PyObject *args) {
    Py_buffer values;
    int limit;
    uint16_t largest;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*i", &values, &limit)) return NULL;
    Py_BEGIN_ALLOW_THREADS;
    DISPATCH(largest_size)(values.buf, values.len / 2, &largest);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&values);
    return PyBool_FromLong(largest < limit);
}
