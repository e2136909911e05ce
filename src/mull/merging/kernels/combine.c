/* Every method but interpolation on one block: sums of scaled differences from a base, in double, as operations.py
 * explains them step by step. The order of the operations is torch's there, so that the results are the same to the bit. */

#include "random.h"

typedef struct {
    Inputs in;
    double factor[MODELS], weight[MODELS], low[MODELS], high[MODELS];
    double scale, total;  /* total: the weights' sum to divide by, 0 = do not */
    uint32_t keep;        /* a random number below this keeps its element; 0 = all are kept */
    uint32_t key[2];
    int elect, mean;
} Task;

INLINE void load(double *values, const uint16_t *from, Py_ssize_t length) {
    uint16_t raw[LANES] = {0};
    memcpy(raw, from, (size_t)length * sizeof(uint16_t));
    for (int i = 0; i < LANES; i++) values[i] = (double)widen(raw[i]);
}

INLINE void combine_any(const Task *t, uint16_t *out, uint64_t first) {
    Py_ssize_t count = t->in.count;
    double base[LANES] = {0}, delta[MODELS][LANES], sum[LANES], weight[LANES];
    uint32_t random[LANES];
    uint16_t rounded[LANES];
    for (Py_ssize_t start = 0; start < count; start += LANES) {
        Py_ssize_t length = count - start < LANES ? count - start : LANES;
        if (t->in.base) load(base, t->in.base + start, length);
        for (int m = 0; m < t->in.models; m++) {
            double *d = delta[m], low = t->low[m], high = t->high[m], factor = t->factor[m];
            load(d, t->in.model[m] + start, length);
            if (t->in.base) for (int i = 0; i < LANES; i++) d[i] -= base[i];
            if (low > 0 || high < INFINITY) {
                for (int i = 0; i < LANES; i++) {
                    double size = (double)(float)fabs(d[i]);
                    d[i] = (size < low) | (size > high) ? 0.0 : d[i]; /* NaN stays */
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
        if (t->elect) {
            double sign[LANES];
            for (int i = 0; i < LANES; i++) {
                sign[i] = sum[i] >= 0 ? 1.0 : -1.0;
                sum[i] *= 0.0; /* NaN stays */
                weight[i] = 0.0;
            }
            for (int m = 0; m < t->in.models; m++) {
                double own = t->weight[m], *d = delta[m];
                for (int i = 0; i < LANES; i++) {
                    double agreeing = d[i] * sign[i];
                    sum[i] += agreeing > 0 ? d[i] : 0.0;
                    weight[i] += agreeing > 0 ? own : 0.0;
                }
            }
            if (t->mean)
                for (int i = 0; i < LANES; i++) sum[i] = weight[i] != 0 ? sum[i] / weight[i] : sum[i];
        } else if (t->mean) {
            for (int i = 0; i < LANES; i++) sum[i] /= t->total;
        }
        for (int i = 0; i < LANES; i++) rounded[i] = narrow((float)(base[i] + t->scale * sum[i]));
        memcpy(out + start, rounded, (size_t)length * sizeof(uint16_t));
    }
}

VARIANTS(combine, (const Task *t, uint16_t *out, uint64_t first), (t, out, first))

PyObject *combine(PyObject *self, PyObject *args) {
    PyObject *models, *base, *factors, *weights, *lows, *highs, *result = NULL;
    Py_buffer out;
    unsigned long long first, key;
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
        numbers(lows, many, t.low) && numbers(highs, many, t.high)) {
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
