/* Sizes within brackets, for order_statistics.py. */

#include "bracket.h"
#include "spread.h"

#define BRACKETS (2 * MAX_MODELS)

/* What one pass over the elements looks for. */
typedef struct {
    int count;                   /* of brackets */
    int model_of[BRACKETS];      /* the model whose sizes a bracket is for; not used by spreads_any */
    Bracket bracket[BRACKETS];
} Search;

/* Looks for sizes |model - base| in float: the same numbers as those that `combine` compares, because the difference of
 * two bfloat16 numbers rounds to the same float from double. Brackets of the same model should be neighbours, so that
 * its sizes are computed once. A missing base counts as 0. Positions after the last element get size -1, which lies in
 * no bracket. */
INLINE void sizes_any(const Inputs *inputs, Search *search, Pick *pick) {
    static const uint16_t zeros[CHUNK];
    uint16_t spare[CHUNK];
    float base[CHUNK], size[CHUNK];
    for (Py_ssize_t start = 0; start < inputs->count; start += CHUNK) {
        Py_ssize_t length = min_length(inputs->count - start, CHUNK);
        const uint16_t *from = inputs->base ? padded_chunk(inputs->base + start, length, spare) : zeros;
        for (int i = 0; i < CHUNK; i++) base[i] = from_bfloat16(from[i]);
        for (int bracket = 0; bracket < search->count; bracket++) {
            if (!bracket || search->model_of[bracket] != search->model_of[bracket - 1]) {
                from = padded_chunk(inputs->models[search->model_of[bracket]] + start, length, spare);
                for (int i = 0; i < CHUNK; i++) size[i] = fabsf(from_bfloat16(from[i]) - base[i]);
                for (Py_ssize_t i = length; i < CHUNK; i++) size[i] = -1.0f;
            }
            pick(&search->bracket[bracket], size);
        }
    }
}

FMA_CODE static void sizes_fma(const Inputs *inputs, Search *search) { sizes_any(inputs, search, pick_fma); }
AVX512_CODE static void sizes_avx512(const Inputs *inputs, Search *search) { sizes_any(inputs, search, pick_compress); }

/* The same for the standard deviations over all models. */
INLINE void spreads_any(const Inputs *inputs, Search *search, Pick *pick) {
    double base[CHUNK], delta[MAX_MODELS][CHUNK];
    float size[CHUNK];
    for (Py_ssize_t start = 0; start < inputs->count; start += CHUNK) {
        Py_ssize_t length = min_length(inputs->count - start, CHUNK);
        load_and_spread(inputs, start, length, base, delta, size);
        for (Py_ssize_t i = length; i < CHUNK; i++) size[i] = -1.0f;
        for (int bracket = 0; bracket < search->count; bracket++) pick(&search->bracket[bracket], size);
    }
}

FMA_CODE static void spreads_fma(const Inputs *inputs, Search *search) { spreads_any(inputs, search, pick_fma); }
AVX512_CODE static void spreads_avx512(const Inputs *inputs, Search *search) {
    spreads_any(inputs, search, pick_compress);
}

/* A list of (within, above), one for each bracket. */
static PyObject *counts(const Search *search) {
    PyObject *list = PyList_New(search->count);
    for (int bracket = 0; list && bracket < search->count; bracket++) {
        PyObject *pair = Py_BuildValue("nn", search->bracket[bracket].within, search->bracket[bracket].above);
        if (!pair || PyList_SetItem(list, bracket, pair) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

/* What `sizes` and `spreads` do with their arguments. */
static PyObject *picked(PyObject *args, void (*kernel)(const Inputs *, Search *)) {
    PyObject *models, *base, *places, *lows, *highs, *outs, *result = NULL;
    double place[BRACKETS], low[BRACKETS], high[BRACKETS];
    Py_buffer out[BRACKETS];
    int view_count = 0;
    Search search;
    Inputs inputs;
    if (!PyArg_ParseTuple(args, "OOOOOO", &models, &base, &places, &lows, &highs, &outs)) return NULL;
    Py_ssize_t bracket_count = PyTuple_Check(outs) ? PyTuple_Size(outs) : 0;
    if (!open_inputs(&inputs, models, base)) goto closed;
    if (bracket_count < 1 || bracket_count > BRACKETS) {
        PyErr_SetString(PyExc_ValueError, "1 to 32 brackets are needed");
        goto closed;
    }
    if (!read_numbers(places, bracket_count, place) || !read_numbers(lows, bracket_count, low) ||
        !read_numbers(highs, bracket_count, high))
        goto closed;
    search.count = (int)bracket_count;
    for (; view_count < bracket_count; view_count++) {
        if (!(place[view_count] >= 0 && place[view_count] < inputs.model_count)) {
            PyErr_SetString(PyExc_ValueError, "there is no such model");
            goto closed;
        }
        if (PyObject_GetBuffer(PyTuple_GetItem(outs, view_count), &out[view_count], PyBUF_WRITABLE) < 0) goto closed;
        search.model_of[view_count] = (int)place[view_count];
        search.bracket[view_count] = (Bracket){.low = (float)low[view_count], .high = (float)high[view_count],
                                               .out = out[view_count].buf,
                                    .room = out[view_count].len / (Py_ssize_t)sizeof(float)};
    }
    Py_BEGIN_ALLOW_THREADS;
    kernel(&inputs, &search);
    Py_END_ALLOW_THREADS;
    result = counts(&search);
closed:
    while (view_count) PyBuffer_Release(&out[--view_count]);
    close_inputs(&inputs);
    return result;
}

PyObject *sizes(PyObject *self, PyObject *args) {
    (void)self;
    return picked(args, DISPATCH(sizes));
}

PyObject *spreads(PyObject *self, PyObject *args) {
    (void)self;
    return picked(args, DISPATCH(spreads));
}
