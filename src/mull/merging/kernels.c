/* One pass over memory for what torch needs several for. Optional: without a compiler, or on a processor without fused
 * multiply-add, mull takes the same steps with torch and gets the same bytes (interpolation.py). */

#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")))
#define FAST (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#define FASTER (FAST && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") \
                && __builtin_cpu_supports("avx512dq"))
#define INLINE static inline __attribute__((always_inline))
#elif defined(__aarch64__) && defined(__GNUC__)
#define AVX2
#define AVX512
#define FAST 1
#define FASTER 0
#define INLINE static inline __attribute__((always_inline))
#else
#error "no fused multiply-add to count on: mull uses torch instead"
#endif

#define BLOCK 1024 /* elements that wait in the first-level cache, so that the result may overwrite an input */

INLINE float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE uint32_t to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* bfloat16 is the upper half of a float. */
INLINE float widen(uint16_t half) { return from_bits((uint32_t)half << 16); }

/* To nearest, ties to even. */
INLINE uint16_t narrow(float value) {
    uint32_t bits = to_bits(value);
    uint16_t rounded = (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    return value != value ? 0x7FC0 : rounded;
}

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
        Py_ssize_t length = count - start < BLOCK ? count - start : BLOCK;
        if (wide) {
            for (Py_ssize_t i = 0; i < length; i++) floats[i] = widen(mix(near[start + i], far[start + i], high, low));
            memcpy((float *)out + start, floats, (size_t)length * sizeof(float));
        } else {
            for (Py_ssize_t i = 0; i < length; i++) halves[i] = mix(near[start + i], far[start + i], high, low);
            memcpy((uint16_t *)out + start, halves, (size_t)length * sizeof(uint16_t));
        }
    }
}

#define ARGUMENTS const uint16_t *near, const uint16_t *far, void *out, Py_ssize_t count, float high, float low, int wide
AVX2 static void interpolate_fast(ARGUMENTS) { interpolate_any(near, far, out, count, high, low, wide); }
AVX512 static void interpolate_faster(ARGUMENTS) { interpolate_any(near, far, out, count, high, low, wide); }

static PyObject *interpolate(PyObject *self, PyObject *args) {
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
        (FASTER ? interpolate_faster : interpolate_fast)(near.buf, far.buf, out.buf, count, (float)high, (float)low, wide);
        Py_END_ALLOW_THREADS;
        Py_INCREF(Py_None);
        result = Py_None;
    }
    PyBuffer_Release(&near);
    PyBuffer_Release(&far);
    PyBuffer_Release(&out);
    return result;
}

/* Every other method on one block: sums of scaled differences from a base, in double, as methods/operations.py explains
 * them step by step. The order of the operations is torch's there, so that the results are the same to the bit. */

#define MODELS 16
#define LANES 256 /* elements at a time: all rows below stay in the first-level cache */

typedef struct {
    int models;
    const uint16_t *model[MODELS], *base;
    double factor[MODELS], weight[MODELS], low[MODELS], high[MODELS];
    double scale, total;  /* total: the weights' sum to divide by, 0 = do not */
    uint32_t keep;        /* a random number below this keeps its element; 0 = all are kept */
    uint32_t key[2];
    int elect, mean;
} Task;

/* Philox 4x32-10 (Salmon et al. 2011): four numbers per counter, without state. */
INLINE void philox(uint32_t *out, uint64_t counter, uint32_t stream, const uint32_t *key) {
    uint32_t x0[LANES / 4], x1[LANES / 4], x2[LANES / 4], x3[LANES / 4];
    for (int i = 0; i < LANES / 4; i++) {
        x0[i] = (uint32_t)(counter + (uint64_t)i);
        x1[i] = (uint32_t)((counter + (uint64_t)i) >> 32);
        x2[i] = stream;
        x3[i] = 0;
    }
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < LANES / 4; i++) {
            uint64_t a = (uint64_t)x0[i] * 0xD2511F53u, b = (uint64_t)x2[i] * 0xCD9E8D57u;
            uint32_t y0 = (uint32_t)(b >> 32) ^ x1[i] ^ k0, y2 = (uint32_t)(a >> 32) ^ x3[i] ^ k1;
            x1[i] = (uint32_t)b;
            x3[i] = (uint32_t)a;
            x0[i] = y0;
            x2[i] = y2;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < LANES / 4; i++) {
        out[4 * i] = x0[i];
        out[4 * i + 1] = x1[i];
        out[4 * i + 2] = x2[i];
        out[4 * i + 3] = x3[i];
    }
}

INLINE void load(double *values, const uint16_t *from, Py_ssize_t length) {
    uint16_t raw[LANES] = {0};
    memcpy(raw, from, (size_t)length * sizeof(uint16_t));
    for (int i = 0; i < LANES; i++) values[i] = (double)widen(raw[i]);
}

INLINE void combine_any(const Task *t, uint16_t *out, Py_ssize_t count, uint64_t first) {
    double base[LANES] = {0}, delta[MODELS][LANES], sum[LANES], weight[LANES];
    uint32_t random[LANES];
    uint16_t rounded[LANES];
    for (Py_ssize_t start = 0; start < count; start += LANES) {
        Py_ssize_t length = count - start < LANES ? count - start : LANES;
        if (t->base) load(base, t->base + start, length);
        for (int m = 0; m < t->models; m++) {
            double *d = delta[m], low = t->low[m], high = t->high[m], factor = t->factor[m];
            load(d, t->model[m] + start, length);
            if (t->base) for (int i = 0; i < LANES; i++) d[i] -= base[i];
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
        for (int m = 1; m < t->models; m++)
            for (int i = 0; i < LANES; i++) sum[i] += delta[m][i];
        if (t->elect) {
            double sign[LANES];
            for (int i = 0; i < LANES; i++) {
                sign[i] = sum[i] >= 0 ? 1.0 : -1.0;
                sum[i] *= 0.0; /* NaN stays */
                weight[i] = 0.0;
            }
            for (int m = 0; m < t->models; m++) {
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

AVX2 static void combine_fast(const Task *t, uint16_t *out, Py_ssize_t count, uint64_t first) {
    combine_any(t, out, count, first);
}
AVX512 static void combine_faster(const Task *t, uint16_t *out, Py_ssize_t count, uint64_t first) {
    combine_any(t, out, count, first);
}
#define SIZES const uint16_t *model, const uint16_t *base, Py_ssize_t count, float low, float high, float *out, \
              Py_ssize_t room, Py_ssize_t *within, Py_ssize_t *above
AVX2 static void sizes_fast(SIZES) { sizes_any(model, base, count, low, high, out, room, within, above); }
AVX512 static void sizes_faster(SIZES) { sizes_any(model, base, count, low, high, out, room, within, above); }

/* Fills `values` from a tuple of exactly `count` numbers. */
static int numbers(PyObject *tuple, Py_ssize_t count, double *values) {
    if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) != count) {
        PyErr_SetString(PyExc_ValueError, "one number for each model is needed");
        return 0;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        values[i] = PyFloat_AsDouble(PyTuple_GetItem(tuple, i));
        if (PyErr_Occurred()) return 0;
    }
    return 1;
}

static PyObject *combine(PyObject *self, PyObject *args) {
    PyObject *models, *base, *factors, *weights, *lows, *highs, *result = NULL;
    Py_buffer out, views[MODELS + 1];
    int held = 0;
    unsigned long long first, key;
    unsigned int keep;
    Task t;
    (void)self;
    memset(&t, 0, sizeof t);
    if (!PyArg_ParseTuple(args, "O!Ow*OOOOddIKKpp", &PyTuple_Type, &models, &base, &out, &factors, &weights, &lows,
                          &highs, &t.scale, &t.total, &keep, &key, &first, &t.elect, &t.mean))
        return NULL;
    Py_ssize_t many = PyTuple_Size(models);
    if (many < 1 || many > MODELS || first % 4) {
        PyErr_SetString(PyExc_ValueError, "1 to 16 models and a first element that is a multiple of 4 are needed");
        goto done;
    }
    t.models = (int)many;
    t.keep = keep;
    t.key[0] = (uint32_t)key;
    t.key[1] = (uint32_t)(key >> 32);
    if (!numbers(factors, many, t.factor) || !numbers(weights, many, t.weight) || !numbers(lows, many, t.low) ||
        !numbers(highs, many, t.high))
        goto done;
    for (Py_ssize_t m = 0; m < many + (base != Py_None); m++) {
        PyObject *from = m < many ? PyTuple_GetItem(models, m) : base;
        if (PyObject_GetBuffer(from, &views[held], PyBUF_SIMPLE) < 0) goto done;
        held++;
        if (views[held - 1].len != out.len || out.len % 2) {
            PyErr_SetString(PyExc_ValueError, "models, base and out differ in length");
            goto done;
        }
        if (m < many) t.model[m] = views[m].buf;
        else t.base = views[m].buf;
    }
    Py_BEGIN_ALLOW_THREADS;
    (FASTER ? combine_faster : combine_fast)(&t, out.buf, out.len / 2, first);
    Py_END_ALLOW_THREADS;
    Py_INCREF(Py_None);
    result = Py_None;
done:
    for (int i = 0; i < held; i++) PyBuffer_Release(&views[i]);
    PyBuffer_Release(&out);
    return result;
}

static PyObject *sizes(PyObject *self, PyObject *args) {
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
        (FASTER ? sizes_faster : sizes_fast)(model.buf, based ? base_view.buf : NULL, model.len / 2, low, high, out.buf,
                                             out.len / 4, &within, &above);
        Py_END_ALLOW_THREADS;
        result = Py_BuildValue("nn", within, above);
    }
    if (based) PyBuffer_Release(&base_view);
    PyBuffer_Release(&model);
    PyBuffer_Release(&out);
    return result;
}

static PyMethodDef methods[] = {
    {"interpolate", interpolate, METH_VARARGS,
     "interpolate(near, far, out, high, low): near + (high + low)(far - near) on buffers of bfloat16, rounded to bfloat16\n"
     "once. Writes bfloat16, or float32 where `out` has twice the bytes. Several threads may call it at a time."},
    {"combine", combine, METH_VARARGS,
     "combine(models, base, out, factors, weights, lows, highs, scale, total, keep, key, first, elect, mean): the steps of\n"
     "operations.TaskVectors on buffers of bfloat16."},
    {"sizes", sizes, METH_VARARGS,
     "sizes(model, base, low, high, out): writes the |model - base| within [low, high] to the float32 buffer `out` as far\n"
     "as there is room; returns how many lie within and how many above."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernels", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) {
    if (!FAST) {
        PyErr_SetString(PyExc_ImportError, "this processor has no fused multiply-add");
        return NULL;
    }
    return PyModule_Create(&module);
}
