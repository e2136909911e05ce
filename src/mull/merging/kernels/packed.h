/* combine's sums of two models where most elements are the base's: only the others, packed together, are computed. The
 * same steps as sum_of_two's in combine.c, to the same bits. */

#include "common.h"

/* What is the same for all elements of a task. */
typedef struct {
    double factor[2], scale, first, second, both; /* by what a sum is divided where one model agrees, or both */
    float low[2];
    uint32_t keep;
    int elect, exact; /* exact: the divisors are given as their reciprocals */
} Rule;

/* LANES results from finite inputs and a random number for each element and model. */
typedef void Packed(const Rule *rule, const uint16_t *const *model, const uint16_t *base, uint32_t (*random)[LANES],
                    uint16_t *out);

#if defined(__x86_64__)
#include <immintrin.h>

#define VBMI2 __attribute__((target("bmi2,avx2,fma,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi2")))
#define WORDS 32 /* bfloat16 numbers of a vector: as floats, those in even and those in odd places */

VBMI2 INLINE __m512i words(const uint16_t *from) { return _mm512_loadu_si512(from); }
VBMI2 INLINE __m512 even(__m512i words) { return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16)); }
VBMI2 INLINE __m512 odd(__m512i words) {
    return _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32((int)0xFFFF0000)));
}

VBMI2 INLINE __mmask32 reaches(__m512i model, __m512i base, __m512 low) {
    __mmask16 evens = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_sub_ps(even(model), even(base))), low, _CMP_GE_OQ);
    __mmask16 odds = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_sub_ps(odd(model), odd(base))), low, _CMP_GE_OQ);
    return _pdep_u32(evens, 0x55555555) | _pdep_u32(odds, 0xAAAAAAAA);
}

VBMI2 INLINE __mmask32 drawn(const uint32_t *random, uint32_t keep) {
    __m512i below = _mm512_set1_epi32((int)keep);
    uint32_t first = _mm512_cmplt_epu32_mask(_mm512_loadu_si512(random), below);
    uint32_t second = _mm512_cmplt_epu32_mask(_mm512_loadu_si512(random + 16), below);
    return first | second << 16;
}

VBMI2 INLINE __m512d divide(__m512d value, __m512d by, int exact) {
    return exact ? _mm512_mul_pd(value, by) : _mm512_div_pd(value, by);
}

/* Eight sums. */
VBMI2 INLINE __m256 eight(const Rule *r, __m256 origin, __m256 left, __m256 right, int elect, int exact) {
    __m512d first = _mm512_set1_pd(r->first), second = _mm512_set1_pd(r->second), both = _mm512_set1_pd(r->both);
    __m512d base = _mm512_cvtps_pd(origin), zero = _mm512_setzero_pd();
    __m512d x = _mm512_mul_pd(_mm512_sub_pd(_mm512_cvtps_pd(left), base), _mm512_set1_pd(r->factor[0]));
    __m512d y = _mm512_mul_pd(_mm512_sub_pd(_mm512_cvtps_pd(right), base), _mm512_set1_pd(r->factor[1]));
    __m512d sum = _mm512_add_pd(x, y), divisor = both;
    if (elect) {
        __m512d sign = _mm512_and_pd(sum, _mm512_set1_pd(-0.0));
        __mmask8 agrees = _mm512_cmp_pd_mask(_mm512_xor_pd(x, sign), zero, _CMP_GT_OQ);
        __mmask8 other = _mm512_cmp_pd_mask(_mm512_xor_pd(y, sign), zero, _CMP_GT_OQ);
        divisor = _mm512_mask_mov_pd(_mm512_set1_pd(1.0), agrees, first);
        divisor = _mm512_mask_mov_pd(_mm512_mask_mov_pd(divisor, other, second), agrees & other, both);
        sum = _mm512_mask_mov_pd(_mm512_maskz_mov_pd(agrees, x), other, y);
        sum = _mm512_mask_add_pd(sum, agrees & other, x, y);
    }
    sum = divide(sum, divisor, exact);
    return _mm512_cvtpd_ps(_mm512_add_pd(base, _mm512_mul_pd(_mm512_set1_pd(r->scale), sum)));
}

/* Sixteen of them, rounded to bfloat16 in the upper halves. */
VBMI2 INLINE __m512i sixteen(const Rule *r, __m512 base, __m512 left, __m512 right, int elect, int exact) {
    __m256 low = eight(r, _mm512_castps512_ps256(base), _mm512_castps512_ps256(left), _mm512_castps512_ps256(right),
                       elect, exact);
    __m256 high = eight(r, _mm512_extractf32x8_ps(base, 1), _mm512_extractf32x8_ps(left, 1),
                        _mm512_extractf32x8_ps(right, 1), elect, exact);
    __m512i bits = _mm512_castps_si512(_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1));
    __m512i last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    return _mm512_add_epi32(bits, _mm512_add_epi32(last, _mm512_set1_epi32(0x7FFF)));
}

VBMI2 INLINE void sums(const Rule *r, const uint16_t *base, const uint16_t *left, const uint16_t *right, int count,
                        uint16_t *out, int elect, int exact) {
    for (int i = 0; i < count; i += WORDS) {
        __m512i b = words(base + i), x = words(left + i), y = words(right + i);
        __m512i evens = _mm512_srli_epi32(sixteen(r, even(b), even(x), even(y), elect, exact), 16);
        __m512i odds = sixteen(r, odd(b), odd(x), odd(y), elect, exact);
        _mm512_storeu_si512(out + i, _mm512_mask_mov_epi16(evens, 0xAAAAAAAA, odds));
    }
}

VBMI2 static void packed_fastest(const Rule *r, const uint16_t *const *model, const uint16_t *base,
                                 uint32_t (*random)[LANES], uint16_t *out) {
    uint16_t origin[LANES + WORDS], left[LANES + WORDS], right[LANES + WORDS], result[LANES + WORDS];
    __mmask32 mask[LANES / WORDS];
    __m512 low0 = _mm512_set1_ps(r->low[0]), low1 = _mm512_set1_ps(r->low[1]);
    int count = 0;
    for (int i = 0; i < LANES; i += WORDS) {
        __m512i b = words(base + i), x = words(model[0] + i), y = words(model[1] + i);
        __mmask32 first = reaches(x, b, low0), second = reaches(y, b, low1);
        if (r->keep) {
            first &= drawn(random[0] + i, r->keep);
            second &= drawn(random[1] + i, r->keep);
        }
        /* A zero is computed in any case: its sign is the sum's. */
        __mmask32 kept = first | second | _mm512_testn_epi16_mask(b, _mm512_set1_epi16(0x7FFF));
        _mm512_storeu_si512(origin + count, _mm512_maskz_compress_epi16(kept, b));
        _mm512_storeu_si512(left + count, _mm512_maskz_compress_epi16(kept, _mm512_mask_mov_epi16(b, first, x)));
        _mm512_storeu_si512(right + count, _mm512_maskz_compress_epi16(kept, _mm512_mask_mov_epi16(b, second, y)));
        mask[i / WORDS] = kept;
        count += __builtin_popcount(kept);
    }
    memset(origin + count, 0, WORDS * sizeof(uint16_t));
    memset(left + count, 0, WORDS * sizeof(uint16_t));
    memset(right + count, 0, WORDS * sizeof(uint16_t));
    if (r->elect && r->exact) sums(r, origin, left, right, count, result, 1, 1);
    else if (r->elect) sums(r, origin, left, right, count, result, 1, 0);
    else if (r->exact) sums(r, origin, left, right, count, result, 0, 1);
    else sums(r, origin, left, right, count, result, 0, 0);
    count = 0;
    for (int i = 0; i < LANES; i += WORDS) {
        __m512i all = _mm512_mask_expand_epi16(words(base + i), mask[i / WORDS], words(result + count));
        _mm512_storeu_si512(out + i, all);
        count += __builtin_popcount(mask[i / WORDS]);
    }
}
#define PACKED (level > 1 ? packed_fastest : NULL)
#else
#define PACKED NULL
#endif
