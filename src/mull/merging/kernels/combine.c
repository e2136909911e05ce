/* Every method but interpolation on one block: sums of scaled differences from a base, in double, as operations.py
 * explains them step by step. The order of the operations is torch's there, so that the results have the same bits. */

#include "election.h"
#include "packed.h"
#include "random.h"

#include <stdlib.h>

typedef struct {
    Inputs in;
    double factor[MODELS], weight[MODELS];
    float low[MODELS], high[MODELS];
    double scale, total;  /* total: the weights' sum */
    uint32_t keep;        /* a random number below this keeps its element; 0 = all are kept */
    uint32_t key[2];
    int elect, mean;
} Task;

INLINE void load(double *values, const uint16_t *from, Py_ssize_t length) {
    uint16_t spare[LANES];
    from = whole(from, length, spare);
    for (int i = 0; i < LANES; i++) values[i] = (double)widen(from[i]);
}

/* LANES results, whatever the inputs. */
INLINE void combine_all(const Task *t, uint16_t *out, Py_ssize_t start, Py_ssize_t length, uint64_t first,
                        Philox *philox) {
    double base[LANES], delta[MODELS][LANES], sum[LANES];
    uint32_t random[LANES];
    if (t->in.base) load(base, t->in.base + start, length);
    else memset(base, 0, sizeof base);
    for (int m = 0; m < t->in.models; m++) {
        double *d = delta[m], factor = t->factor[m];
        float low = t->low[m], high = t->high[m];
        load(d, t->in.model[m] + start, length);
        if (t->in.base) for (int i = 0; i < LANES; i++) d[i] -= base[i];
        if (low > 0 || high < INFINITY) {
            for (int i = 0; i < LANES; i++) {
                float size = (float)fabs(d[i]);
                d[i] = ((size < low) | (size > high)) ? 0.0 : d[i]; /* NaN stays */
            }
        }
        if (t->keep) {
            philox(random, (first + (uint64_t)start) / 4, (uint32_t)m, t->key);
            for (int i = 0; i < LANES; i++) d[i] = random[i] < t->keep ? d[i] : 0.0;
        }
        for (int i = 0; i < LANES; i++) d[i] *= factor;
    }
    for (int i = 0; i < LANES; i++) sum[i] = delta[0][i];
    for (int m = 1; m < t->in.models; m++)
        for (int i = 0; i < LANES; i++) sum[i] += delta[m][i];
    if (t->elect) elect(sum, delta, t->in.models, t->weight, t->mean);
    else if (t->mean) for (int i = 0; i < LANES; i++) sum[i] /= t->total;
    for (int i = 0; i < LANES; i++) out[i] = narrow((float)(base[i] + t->scale * sum[i]));
}

/* The same for two models where every number is finite: no step has to think of NaN, an element is dropped by taking
 * the base in its place, and what a sum is divided by is one of few numbers. */

typedef struct {
    int usable;
    double divisor[4]; /* by the models that agree: none, the first, the second, both */
    Packed *packed;    /* or NULL where that is slower, or not the same */
    Rule rule;
} Pair;

/* Whether multiplying by 1 / value is dividing by it. */
static int power_of_two(double value) {
    int exponent;
    return fabs(frexp(value, &exponent)) == 0.5 && abs(exponent) < 1000;
}

static Pair pair_of(const Task *t, Packed *packed) {
    Pair p = {.usable = t->in.models == 2};
    for (int m = 0; m < 2 && p.usable; m++) /* with such factors products of bfloat16 differences stay finite */
        p.usable = fabs(t->factor[m]) < 1e200 && t->high[m] == INFINITY;
    double sums[4] = {0, t->weight[0], t->weight[1], t->weight[0] + t->weight[1]};
    for (int i = 0; i < 4; i++) p.divisor[i] = !t->mean ? 1 : !t->elect ? t->total : sums[i] != 0 ? sums[i] : 1;
    int dropping = t->keep || (t->low[0] > 0 && t->low[1] > 0);
    if (dropping && isfinite(t->scale) && p.divisor[0] != 0) p.packed = packed; /* or what is dropped may be NaN */
    int exact = power_of_two(p.divisor[1]) && power_of_two(p.divisor[2]) && power_of_two(p.divisor[3]);
    double by[3];
    for (int i = 0; i < 3; i++) by[i] = exact ? 1 / p.divisor[i + 1] : p.divisor[i + 1];
    p.rule = (Rule){{t->factor[0], t->factor[1]}, t->scale, by[0], by[1], by[2], {t->low[0], t->low[1]}, t->keep,
                    t->elect, exact};
    return p;
}

INLINE int all_finite(const uint16_t *left, const uint16_t *right, const uint16_t *base) {
    uint16_t largest = 0;
    for (int i = 0; i < LANES; i++) {
        uint16_t a = left[i] & 0x7FFF, b = right[i] & 0x7FFF, c = base[i] & 0x7FFF;
        uint16_t larger = a > b ? a : b;
        larger = larger > c ? larger : c;
        largest = largest > larger ? largest : larger;
    }
    return largest < 0x7F80;
}

INLINE void sum_of_two(const Task *t, const Pair *p, int elect, int mean, const float *left, const float *right,
                       const float *base, uint16_t *out) {
    float result[LANES];
    double f = t->factor[0], g = t->factor[1], scale = t->scale;
    double none = p->divisor[0], first = p->divisor[1], second = p->divisor[2], both = p->divisor[3];
    for (int i = 0; i < LANES; i++) {
        double origin = (double)base[i];
        double x = ((double)left[i] - origin) * f, y = ((double)right[i] - origin) * g, sum = x + y, divisor = both;
        if (elect) {
            double sign = sum >= 0 ? 1.0 : -1.0, agreeing = x * sign, other = y * sign;
            double without = agreeing > 0 ? first : none, with = agreeing > 0 ? both : second;
            sum = (agreeing > 0 ? x : 0.0) + (other > 0 ? y : 0.0);
            divisor = other > 0 ? with : without;
        }
        if (mean) sum /= divisor;
        result[i] = (float)(origin + scale * sum);
    }
    for (int i = 0; i < LANES; i++) out[i] = narrow(result[i]);
}

INLINE int combine_two(const Task *t, const Pair *p, uint16_t *out, Py_ssize_t start, Py_ssize_t length, uint64_t first,
                       Philox *philox) {
    uint16_t spare[3][LANES];
    float base[LANES], value[2][LANES];
    uint32_t random[2][LANES];
    static const uint16_t zeros[LANES];
    const uint16_t *from[2] = {
        whole(t->in.model[0] + start, length, spare[0]), whole(t->in.model[1] + start, length, spare[1])};
    const uint16_t *origin = t->in.base ? whole(t->in.base + start, length, spare[2]) : zeros;
    if (!all_finite(from[0], from[1], origin)) return 0;
    for (int m = 0; m < 2 && t->keep; m++) philox(random[m], (first + (uint64_t)start) / 4, (uint32_t)m, t->key);
    if (p->packed) {
        p->packed(&p->rule, from, origin, random, out);
        return 1;
    }
    for (int i = 0; i < LANES; i++) base[i] = widen(origin[i]);
    for (int m = 0; m < 2; m++) {
        float *v = value[m], low = t->low[m];
        for (int i = 0; i < LANES; i++) v[i] = widen(from[m][i]);
        if (low > 0) /* of two bfloat16 numbers float and double round alike */
            for (int i = 0; i < LANES; i++) v[i] = fabsf(v[i] - base[i]) < low ? base[i] : v[i];
        if (t->keep)
            for (int i = 0; i < LANES; i++) v[i] = random[m][i] < t->keep ? v[i] : base[i];
    }
    if (t->elect && t->mean) sum_of_two(t, p, 1, 1, value[0], value[1], base, out);
    else if (t->elect) sum_of_two(t, p, 1, 0, value[0], value[1], base, out);
    else if (t->mean) sum_of_two(t, p, 0, 1, value[0], value[1], base, out);
    else sum_of_two(t, p, 0, 0, value[0], value[1], base, out);
    return 1;
}

INLINE void combine_any(const Task *t, uint16_t *out, uint64_t first, Philox *philox, Packed *packed) {
    Pair p = pair_of(t, packed);
    uint16_t spare[LANES];
    for (Py_ssize_t start = 0; start < t->in.count; start += LANES) {
        Py_ssize_t length = shorter(t->in.count - start, LANES);
        uint16_t *to = length < LANES ? spare : out + start;
        if (!p.usable || !combine_two(t, &p, to, start, length, first, philox))
            combine_all(t, to, start, length, first, philox);
        if (length < LANES) memcpy(out + start, spare, (size_t)length * sizeof(uint16_t));
    }
}

AVX2 static void combine_fast(const Task *t, uint16_t *out, uint64_t first) {
    combine_any(t, out, first, philox_fast, NULL);
}
AVX512 static void combine_faster(const Task *t, uint16_t *out, uint64_t first) {
    combine_any(t, out, first, philox_faster, PACKED);
}

PyObject *combine(PyObject *self, PyObject *args) {
    PyObject *models, *base, *factors, *weights, *lows, *highs, *result = NULL;
    Py_buffer out;
    unsigned long long first, key;
    double low[MODELS], high[MODELS];
    Task t;
    (void)self;
    memset(&t, 0, sizeof t);
    if (!PyArg_ParseTuple(args, "OOw*OOOOddIKKpp", &models, &base, &out, &factors, &weights, &lows, &highs, &t.scale,
                          &t.total, &t.keep, &key, &first, &t.elect, &t.mean))
        return NULL;
    t.key[0] = (uint32_t)key;
    t.key[1] = (uint32_t)(key >> 32);
    Py_ssize_t many = PyTuple_Check(models) ? PyTuple_Size(models) : 0;
    if (open_inputs(&t.in, models, base) && numbers(factors, many, t.factor) && numbers(weights, many, t.weight) &&
        numbers(lows, many, low) && numbers(highs, many, high)) {
        for (Py_ssize_t m = 0; m < many; m++) {
            t.low[m] = (float)low[m];
            t.high[m] = (float)high[m];
        }
        if (out.len != 2 * t.in.count || first % 4) {
            PyErr_SetString(PyExc_ValueError, "out differs in length, or the first element is no multiple of 4");
        } else {
            Py_BEGIN_ALLOW_THREADS;
            BEST(combine)(&t, out.buf, first);
            Py_END_ALLOW_THREADS;
            Py_INCREF(Py_None);
            result = Py_None;
        }
    }
    close_inputs(&t.in);
    PyBuffer_Release(&out);
    return result;
}
