/* Definitions shared by all kernels.
 *
 * A kernel does in one pass over memory what torch needs several passes for. The kernels are optional: without a
 * compiler, or on a processor without fused multiply-add, torch does the same steps and gives the same bytes (except
 * for the bits of NaN).
 *
 * What every kernel may assume, because the Python function in the same file (`interpolate`, `combine`, ...) checks its
 * arguments before it calls the kernel:
 *   - inputs and output are contiguous arrays of bfloat16 bit patterns, and their lengths fit together;
 *   - buffers are aligned for their element type only, so vector loads and stores must be the unaligned ones;
 *   - inputs may contain NaN and infinity.
 * The caller in Python makes sure that no other thread writes to these buffers. The output must not overlap an input,
 * except in `interpolate`, where it may be one of the inputs. The GIL is released while a kernel runs. */

#ifndef MULL_KERNELS
#define MULL_KERNELS

#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__) && defined(__GNUC__)
#define FMA_CODE __attribute__((target("avx2,fma")))
#define AVX512_CODE __attribute__((target("avx2,fma,popcnt,avx512f,avx512bw,avx512vl,avx512dq")))
#define HAS(feature) (__builtin_cpu_supports(feature) != 0)
#define HAS_FMA (HAS("avx2") && HAS("fma"))
#define HAS_AVX512 (HAS_FMA && HAS("avx512bw") && HAS("avx512vl") && HAS("avx512dq"))
#define HAS_VBMI2 (HAS_AVX512 && HAS("avx512vbmi2") && HAS("bmi2"))
#elif defined(__aarch64__) && defined(__GNUC__)
#define FMA_CODE
#define AVX512_CODE
#define HAS_FMA 1
#define HAS_AVX512 0
#define HAS_VBMI2 0
#else
#error "no fused multiply-add to count on: mull uses torch instead"
#endif

/* Defines name_fma and name_avx512. Both have the body of name_any, compiled for other instructions. */
#define VARIANTS(name, parameters, arguments) \
    FMA_CODE static void name##_fma parameters { name##_any arguments; } \
    AVX512_CODE static void name##_avx512 parameters { name##_any arguments; }
#define DISPATCH(name) (simd_level > 0 ? name##_avx512 : name##_fma)

/* The instructions in use: 0 AVX2 with FMA (or any 64-bit Arm), 1 AVX-512 too, 2 AVX-512 VBMI2 too. */
extern int simd_level;

#define MAX_MODELS 16
#define CHUNK 256 /* elements handled at a time: intermediate results stay in the first-level cache */

/* The same range of one tensor in all models, and in the base model if there is one (else `base` is NULL). */
typedef struct {
    int model_count, view_count; /* view_count: how many `views` must be released */
    Py_ssize_t count;            /* elements of each tensor */
    const uint16_t *models[MAX_MODELS], *base;
    Py_buffer views[MAX_MODELS + 1];
} Inputs;

/* Gets the buffers of a tuple of models and of `base`, which may be None. Returns 0 and sets a Python error if their
 * lengths differ or are not multiples of 2 bytes. Call close_inputs in either case. */
int open_inputs(Inputs *inputs, PyObject *models, PyObject *base);
void close_inputs(Inputs *inputs);
/* Fills `values` from a tuple of exactly `count` numbers. Returns 0 and sets a Python error if it is anything else. */
int read_numbers(PyObject *tuple, Py_ssize_t count, double *values);

PyObject *all_below(PyObject *self, PyObject *args);
PyObject *interpolate(PyObject *self, PyObject *args);
PyObject *combine(PyObject *self, PyObject *args);
PyObject *mix_rows(PyObject *self, PyObject *args);
PyObject *products(PyObject *self, PyObject *args);
PyObject *prune(PyObject *self, PyObject *args);
PyObject *fuse(PyObject *self, PyObject *args);
PyObject *sizes(PyObject *self, PyObject *args);
PyObject *spreads(PyObject *self, PyObject *args);
PyObject *squares(PyObject *self, PyObject *args);

INLINE float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Exact: a bfloat16 number is the upper half of a float. */
INLINE float from_bfloat16(uint16_t bits) { return float_from_bits((uint32_t)bits << 16); }

/* Rounds to nearest, ties to even. Every NaN becomes the same NaN. */
INLINE uint16_t to_bfloat16(float value) {
    uint32_t bits = bits_of_float(value);
    uint16_t rounded = (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    return value != value ? 0x7FC0 : rounded;
}

/* CHUNK readable elements that begin with the `length` elements at `from`: `from` itself if there are enough, else
 * `spare`, filled with a copy of them and zeros. */
INLINE const uint16_t *padded_chunk(const uint16_t *from, Py_ssize_t length, uint16_t *spare) {
    if (length >= CHUNK) return from;
    memset(spare, 0, CHUNK * sizeof(uint16_t));
    memcpy(spare, from, (size_t)length * sizeof(uint16_t));
    return spare;
}

INLINE Py_ssize_t min_length(Py_ssize_t left, Py_ssize_t right) { return left < right ? left : right; }

#endif
