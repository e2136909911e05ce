/* What the kernels share. Each does in one pass over memory what torch needs several for. They are optional: without
 * a compiler, or on a processor without fused multiply-add, torch takes the same steps to the same bytes. */

#ifndef MULL_KERNELS
#define MULL_KERNELS

#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__) && defined(__GNUC__)
#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx2,fma,popcnt,avx512f,avx512bw,avx512vl,avx512dq")))
#define HAS(feature) (__builtin_cpu_supports(feature) != 0)
#define FAST (HAS("avx2") && HAS("fma"))
#define FASTER (FAST && HAS("avx512bw") && HAS("avx512vl") && HAS("avx512dq"))
#define FASTEST (FASTER && HAS("avx512vbmi2") && HAS("bmi2"))
#elif defined(__aarch64__) && defined(__GNUC__)
#define AVX2
#define AVX512
#define FAST 1
#define FASTER 0
#define FASTEST 0
#else
#error "no fused multiply-add to count on: mull uses torch instead"
#endif

/* name_fast and name_faster, from name_any, which is inlined into both. */
#define VARIANTS(name, parameters, arguments) \
    AVX2 static void name##_fast parameters { name##_any arguments; } \
    AVX512 static void name##_faster parameters { name##_any arguments; }
#define BEST(name) (level > 0 ? name##_faster : name##_fast)

/* What of the processor is used: 0 AVX2 (or any 64-bit Arm), 1 AVX-512, 2 its VBMI2 too. */
extern int level;

#define MODELS 16
#define LANES 256 /* elements at a time: what waits between two steps stays in the first-level cache */

/* Corresponding ranges of the models' tensors, and of the base's where there is one. */
typedef struct {
    int models, held;
    Py_ssize_t count; /* elements */
    const uint16_t *model[MODELS], *base;
    Py_buffer views[MODELS + 1];
} Inputs;

/* Holds the buffers of a tuple of models and of a base or None; 0 with a Python error if they do not fit together. To
 * be closed in either case. */
int open_inputs(Inputs *in, PyObject *models, PyObject *base);
void close_inputs(Inputs *in);
/* Fills `values` from a tuple of exactly `count` numbers; 0 with a Python error. */
int numbers(PyObject *tuple, Py_ssize_t count, double *values);

PyObject *interpolate(PyObject *self, PyObject *args);
PyObject *combine(PyObject *self, PyObject *args);
PyObject *mix_rows(PyObject *self, PyObject *args);
PyObject *products(PyObject *self, PyObject *args);
PyObject *prune(PyObject *self, PyObject *args);
PyObject *fuse(PyObject *self, PyObject *args);
PyObject *sizes(PyObject *self, PyObject *args);
PyObject *spreads(PyObject *self, PyObject *args);
PyObject *squares(PyObject *self, PyObject *args);

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

/* LANES elements from `from` on, of which `length` exist; zeros stand for the others, in `spare`. */
INLINE const uint16_t *whole(const uint16_t *from, Py_ssize_t length, uint16_t *spare) {
    if (length >= LANES) return from;
    memset(spare, 0, LANES * sizeof(uint16_t));
    memcpy(spare, from, (size_t)length * sizeof(uint16_t));
    return spare;
}

INLINE Py_ssize_t shorter(Py_ssize_t left, Py_ssize_t right) { return left < right ? left : right; }

#endif
