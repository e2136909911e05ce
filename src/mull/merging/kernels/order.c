/* Sizes within a bracket, for order.py. */

#include "bracket.h"
#include "spread.h"

/* Sizes |model − base|, rounded to float once like those that combine compares: of two bfloat16 numbers float and
 * double round alike. */
INLINE void sizes_any(const Inputs *in, Bracket *bracket, Pick *pick) {
    Bracket b = *bracket;
    static const uint16_t zeros[LANES];
    uint16_t spare[2][LANES];
    float size[LANES];
    for (Py_ssize_t start = 0; start < in->count; start += LANES) {
        Py_ssize_t length = shorter(in->count - start, LANES);
        const uint16_t *model = whole(in->model[0] + start, length, spare[0]);
        const uint16_t *base = in->base ? whole(in->base + start, length, spare[1]) : zeros;
        for (int i = 0; i < LANES; i++) size[i] = fabsf(widen(model[i]) - widen(base[i]));
        for (Py_ssize_t i = length; i < LANES; i++) size[i] = -1.0f;
        pick(&b, size);
    }
    *bracket = b;
}

AVX2 static void sizes_fast(const Inputs *in, Bracket *bracket) { sizes_any(in, bracket, pick_fast); }
AVX512 static void sizes_faster(const Inputs *in, Bracket *bracket) { sizes_any(in, bracket, pick_fastest); }

/* The same of the standard deviations over all models. */
INLINE void spreads_any(const Inputs *in, Bracket *bracket, Pick *pick) {
    Bracket b = *bracket;
    double base[LANES], delta[MODELS][LANES];
    float size[LANES];
    for (Py_ssize_t start = 0; start < in->count; start += LANES) {
        Py_ssize_t length = shorter(in->count - start, LANES);
        spread(in, start, length, base, delta, size);
        for (Py_ssize_t i = length; i < LANES; i++) size[i] = -1.0f;
        pick(&b, size);
    }
    *bracket = b;
}

AVX2 static void spreads_fast(const Inputs *in, Bracket *bracket) { spreads_any(in, bracket, pick_fast); }
AVX512 static void spreads_faster(const Inputs *in, Bracket *bracket) { spreads_any(in, bracket, pick_fastest); }

static PyObject *picked(PyObject *args, void (*kernel)(const Inputs *, Bracket *)) {
    PyObject *models, *base, *result = NULL;
    Py_buffer out;
    Bracket bracket;
    Inputs in;
    memset(&bracket, 0, sizeof bracket);
    if (!PyArg_ParseTuple(args, "OOffw*", &models, &base, &bracket.low, &bracket.high, &out)) return NULL;
    if (open_inputs(&in, models, base)) {
        bracket.out = out.buf;
        bracket.room = out.len / (Py_ssize_t)sizeof(float);
        Py_BEGIN_ALLOW_THREADS;
        kernel(&in, &bracket);
        Py_END_ALLOW_THREADS;
        result = Py_BuildValue("nn", bracket.within, bracket.above);
    }
    close_inputs(&in);
    PyBuffer_Release(&out);
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
