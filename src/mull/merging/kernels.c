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

static PyMethodDef methods[] = {
    {"interpolate", interpolate, METH_VARARGS,
     "interpolate(near, far, out, high, low): near + (high + low)(far - near) on buffers of bfloat16, rounded to bfloat16\n"
     "once. Writes bfloat16, or float32 where `out` has twice the bytes. Several threads may call it at a time."},
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
