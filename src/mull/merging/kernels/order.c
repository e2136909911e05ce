/* Sizes within a bracket, for order.py. */

#include "common.h"

/* Sizes |model − base| in [low, high], up to `room` of them, into `out`; counts those within and those above. Rounded to
 * float once, like the sizes that combine_any compares: of two bfloat16 numbers float and double round alike. */
INLINE void sizes_any(const uint16_t *model, const uint16_t *base, Py_ssize_t count, float low, float high, float *out,
                      Py_ssize_t room, Py_ssize_t *within, Py_ssize_t *above) {
    Py_ssize_t found = 0, larger = 0;
    uint8_t inside[LANES];
    uint16_t raw[LANES], origin[LANES] = {0};
    float size[LANES];
    for (Py_ssize_t start = 0; start < count; start += LANES) {
        Py_ssize_t length = count - start < LANES ? count - start : LANES;
        memcpy(raw, model + start, (size_t)length * sizeof(uint16_t));
        if (base) memcpy(origin, base + start, (size_t)length * sizeof(uint16_t));
        for (int i = 0; i < LANES; i++) size[i] = fabsf(widen(raw[i]) - widen(origin[i]));
        for (Py_ssize_t i = length; i < LANES; i++) size[i] = -1.0f;
        int over = 0;
        for (int i = 0; i < LANES; i++) over += size[i] > high;
        larger += over;
        for (int i = 0; i < LANES; i++) inside[i] = (size[i] >= low) & (size[i] <= high);
        for (int group = 0; group < LANES; group += 8) {
            uint64_t any;
            memcpy(&any, inside + group, 8);
            if (!any) continue;
            if (found + 8 <= room) { /* no branch for each element: which one it is cannot be foreseen */
                for (int i = group; i < group + 8; i++) {
                    out[found] = size[i];
                    found += inside[i];
                }
            } else {
                for (int i = group; i < group + 8; i++) {
                    if (inside[i] && found < room) out[found] = size[i];
                    found += inside[i];
                }
            }
        }
    }
    *within = found;
    *above = larger;
}

VARIANTS(sizes, (const uint16_t *model, const uint16_t *base, Py_ssize_t count, float low, float high, float *out,
                 Py_ssize_t room, Py_ssize_t *within, Py_ssize_t *above),
         (model, base, count, low, high, out, room, within, above))

PyObject *sizes(PyObject *self, PyObject *args) {
    Py_buffer model, out, base_view;
    PyObject *base, *result = NULL;
    float low, high;
    Py_ssize_t within, above;
    int based;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*Offw*", &model, &base, &low, &high, &out)) return NULL;
    based = base != Py_None;
    if (based && PyObject_GetBuffer(base, &base_view, PyBUF_SIMPLE) < 0) {
        based = 0;
    } else if (model.len % 2 || out.len % 4 || (based && base_view.len != model.len)) {
        PyErr_SetString(PyExc_ValueError, "model and base differ in length");
    } else {
        Py_BEGIN_ALLOW_THREADS;
        BEST(sizes)(model.buf, based ? base_view.buf : NULL, model.len / 2, low, high, out.buf,
                                             out.len / 4, &within, &above);
        Py_END_ALLOW_THREADS;
        result = Py_BuildValue("nn", within, above);
    }
    if (based) PyBuffer_Release(&base_view);
    PyBuffer_Release(&model);
    PyBuffer_Release(&out);
    return result;
}
