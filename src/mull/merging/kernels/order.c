/* Sizes within brackets, for order.py. */

#include "bracket.h"
#include "spread.h"

#define BRACKETS (2 * MODELS)

/* What is looked for in one pass. */
typedef struct {
    int count, model[BRACKETS];
    Bracket bracket[BRACKETS];
} Search;

/* Sizes |model - base|, rounded to float once like those that combine compares: of two bfloat16 numbers float and
 * double round alike. */
INLINE void sizes_any(const Inputs *in, Search *s, Pick *pick) {
    static const uint16_t zeros[LANES];
    uint16_t spare[LANES];
    float base[LANES], size[LANES];
    for (Py_ssize_t start = 0; start < in->count; start += LANES) {
        Py_ssize_t length = shorter(in->count - start, LANES);
        const uint16_t *from = in->base ? whole(in->base + start, length, spare) : zeros;
        for (int i = 0; i < LANES; i++) base[i] = widen(from[i]);
        for (int b = 0; b < s->count; b++) {
            if (!b || s->model[b] != s->model[b - 1]) {
                from = whole(in->model[s->model[b]] + start, length, spare);
                for (int i = 0; i < LANES; i++) size[i] = fabsf(widen(from[i]) - base[i]);
                for (Py_ssize_t i = length; i < LANES; i++) size[i] = -1.0f;
            }
            pick(&s->bracket[b], size);
        }
    }
}

AVX2 static void sizes_fast(const Inputs *in, Search *s) { sizes_any(in, s, pick_fast); }
AVX512 static void sizes_faster(const Inputs *in, Search *s) { sizes_any(in, s, pick_fastest); }

/* The same of the standard deviations over all models. */
INLINE void spreads_any(const Inputs *in, Search *s, Pick *pick) {
    double base[LANES], delta[MODELS][LANES];
    float size[LANES];
    for (Py_ssize_t start = 0; start < in->count; start += LANES) {
        Py_ssize_t length = shorter(in->count - start, LANES);
        spread(in, start, length, base, delta, size);
        for (Py_ssize_t i = length; i < LANES; i++) size[i] = -1.0f;
        for (int b = 0; b < s->count; b++) pick(&s->bracket[b], size);
    }
}

AVX2 static void spreads_fast(const Inputs *in, Search *s) { spreads_any(in, s, pick_fast); }
AVX512 static void spreads_faster(const Inputs *in, Search *s) { spreads_any(in, s, pick_fastest); }

static PyObject *counts(const Search *s) {
    PyObject *list = PyList_New(s->count);
    for (int b = 0; list && b < s->count; b++) {
        PyObject *pair = Py_BuildValue("nn", s->bracket[b].within, s->bracket[b].above);
        if (!pair || PyList_SetItem(list, b, pair) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

static PyObject *picked(PyObject *args, void (*kernel)(const Inputs *, Search *)) {
    PyObject *models, *base, *places, *lows, *highs, *outs, *result = NULL;
    double place[BRACKETS], low[BRACKETS], high[BRACKETS];
    Py_buffer out[BRACKETS];
    int held = 0;
    Search s;
    Inputs in;
    if (!PyArg_ParseTuple(args, "OOOOOO", &models, &base, &places, &lows, &highs, &outs)) return NULL;
    Py_ssize_t many = PyTuple_Check(outs) ? PyTuple_Size(outs) : 0;
    if (!open_inputs(&in, models, base)) goto closed;
    if (many < 1 || many > BRACKETS) {
        PyErr_SetString(PyExc_ValueError, "1 to 32 brackets are needed");
        goto closed;
    }
    if (!numbers(places, many, place) || !numbers(lows, many, low) || !numbers(highs, many, high)) goto closed;
    s.count = (int)many;
    for (; held < many; held++) {
        if (!(place[held] >= 0 && place[held] < in.models)) {
            PyErr_SetString(PyExc_ValueError, "there is no such model");
            goto closed;
        }
        if (PyObject_GetBuffer(PyTuple_GetItem(outs, held), &out[held], PyBUF_WRITABLE) < 0) goto closed;
        s.model[held] = (int)place[held];
        s.bracket[held] = (Bracket){.low = (float)low[held], .high = (float)high[held], .out = out[held].buf,
                                    .room = out[held].len / (Py_ssize_t)sizeof(float)};
    }
    Py_BEGIN_ALLOW_THREADS;
    kernel(&in, &s);
    Py_END_ALLOW_THREADS;
    result = counts(&s);
closed:
    while (held) PyBuffer_Release(&out[--held]);
    close_inputs(&in);
    return result;
}

PyObject *sizes(PyObject *self, PyObject *args) {
    (void)self;
    return picked(args, BEST(sizes));
}

PyObject *spreads(PyObject *self, PyObject *args) {
    (void)self;
    return picked(args, BEST(spreads));
}
