/* A faster way to compute `combine` for two models where most elements are dropped and so keep the base's value: only
 * the other elements are computed, after they have been moved together (packed). It does the same steps as sum_of_two
 * in combine.c and gives the same bits. */

#include "common.h"

/* The parameters that are the same for all elements. The models are called left and right. */
typedef struct {
    double factor[2], scale;
    double only_left, only_right, both; /* what a sum is divided by if only left agrees, only right, both */
    float low[2];
    uint32_t keep;
    int elect;
    int exact; /* the divisors are powers of 2, and their reciprocals are given instead: multiplying is faster */
} Rule;

/* Computes CHUNK results. All inputs must be finite (the caller checks) and `out` must not overlap them. `random` has a
 * row of CHUNK numbers for each model; it is not read if rule->keep is 0. */
typedef void Packed(const Rule *rule, const uint16_t *const *models, const uint16_t *base, uint32_t (*random)[CHUNK],
                    uint16_t *out);

#if defined(__x86_64__)
#include <immintrin.h>

#define VBMI2 __attribute__((target("bmi2,avx2,fma,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi2")))
#define WORDS 32 /* bfloat16 numbers in a vector. They become floats in two halves: even and odd positions */

VBMI2 INLINE __m512i words(const uint16_t *from) { return _mm512_loadu_si512(from); }
VBMI2 INLINE __m512 even(__m512i words) { return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16)); }
VBMI2 INLINE __m512 odd(__m512i words) {
    return _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32((int)0xFFFF0000)));
}

/* Where |model - base| >= low. */
VBMI2 INLINE __mmask32 reaches(__m512i model, __m512i base, __m512 low) {
    __mmask16 evens = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_sub_ps(even(model), even(base))), low, _CMP_GE_OQ);
    __mmask16 odds = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_sub_ps(odd(model), odd(base))), low, _CMP_GE_OQ);
    return _pdep_u32(evens, 0x55555555) | _pdep_u32(odds, 0xAAAAAAAA);
}

/* Where the random number is below `keep`. */
VBMI2 INLINE __mmask32 drawn(const uint32_t *random, uint32_t keep) {
    __m512i below = _mm512_set1_epi32((int)keep);
    uint32_t first = _mm512_cmplt_epu32_mask(_mm512_loadu_si512(random), below);
    uint32_t second = _mm512_cmplt_epu32_mask(_mm512_loadu_si512(random + 16), below);
    return first | second << 16;
}

VBMI2 INLINE __m512d divide(__m512d value, __m512d divisor, int exact) {
    return exact ? _mm512_mul_pd(value, divisor) : _mm512_div_pd(value, divisor);
}

/* Eight results in double, rounded to float. */
VBMI2 INLINE __m256 eight(const Rule *rule, __m256 origin, __m256 left, __m256 right, int elect, int exact) {
    __m512d only_left = _mm512_set1_pd(rule->only_left), only_right = _mm512_set1_pd(rule->only_right);
    __m512d both = _mm512_set1_pd(rule->both);
    __m512d base = _mm512_cvtps_pd(origin), zero = _mm512_setzero_pd();
    __m512d left_delta = _mm512_mul_pd(_mm512_sub_pd(_mm512_cvtps_pd(left), base), _mm512_set1_pd(rule->factor[0]));
    __m512d right_delta = _mm512_mul_pd(_mm512_sub_pd(_mm512_cvtps_pd(right), base), _mm512_set1_pd(rule->factor[1]));
    __m512d sum = _mm512_add_pd(left_delta, right_delta), divisor = both;
    if (elect) {
        __m512d sign = _mm512_and_pd(sum, _mm512_set1_pd(-0.0));
        __mmask8 left_agrees = _mm512_cmp_pd_mask(_mm512_xor_pd(left_delta, sign), zero, _CMP_GT_OQ);
        __mmask8 right_agrees = _mm512_cmp_pd_mask(_mm512_xor_pd(right_delta, sign), zero, _CMP_GT_OQ);
        divisor = _mm512_mask_mov_pd(_mm512_set1_pd(1.0), left_agrees, only_left);
        divisor = _mm512_mask_mov_pd(divisor, right_agrees, only_right);
        divisor = _mm512_mask_mov_pd(divisor, left_agrees & right_agrees, both);
        sum = _mm512_mask_mov_pd(_mm512_maskz_mov_pd(left_agrees, left_delta), right_agrees, right_delta);
        sum = _mm512_mask_add_pd(sum, left_agrees & right_agrees, left_delta, right_delta);
    }
    sum = divide(sum, divisor, exact);
    return _mm512_cvtpd_ps(_mm512_add_pd(base, _mm512_mul_pd(_mm512_set1_pd(rule->scale), sum)));
}

/* Sixteen results, rounded from float to bfloat16 (to nearest, ties to even) in the upper half of each lane. */
VBMI2 INLINE __m512i sixteen(const Rule *rule, __m512 base, __m512 left, __m512 right, int elect, int exact) {
    __m256 low = eight(rule, _mm512_castps512_ps256(base), _mm512_castps512_ps256(left), _mm512_castps512_ps256(right),
                       elect, exact);
    __m256 high = eight(rule, _mm512_extractf32x8_ps(base, 1), _mm512_extractf32x8_ps(left, 1),
                        _mm512_extractf32x8_ps(right, 1), elect, exact);
    __m512i bits = _mm512_castps_si512(_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1));
    __m512i last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    return _mm512_add_epi32(bits, _mm512_add_epi32(last, _mm512_set1_epi32(0x7FFF)));
}

/* The results of `count` packed elements. All arrays must have room for `count` rounded up to a multiple of WORDS. */
VBMI2 INLINE void sums(const Rule *rule, const uint16_t *base, const uint16_t *left, const uint16_t *right, int count,
                       uint16_t *out, int elect, int exact) {
    for (int i = 0; i < count; i += WORDS) {
        __m512i base_words = words(base + i), left_words = words(left + i), right_words = words(right + i);
        __m512i evens = sixteen(rule, even(base_words), even(left_words), even(right_words), elect, exact);
        __m512i odds = sixteen(rule, odd(base_words), odd(left_words), odd(right_words), elect, exact);
        _mm512_storeu_si512(out + i, _mm512_mask_mov_epi16(_mm512_srli_epi32(evens, 16), 0xAAAAAAAA, odds));
    }
}

/* Packs the elements that at least one model keeps, computes them, and puts them back between the base's elements. The
 * model that does not keep such an element has the base's value there, so that its difference is 0. */
VBMI2 static void packed_vbmi2(const Rule *rule, const uint16_t *const *models, const uint16_t *base,
                               uint32_t (*random)[CHUNK], uint16_t *out) {
    uint16_t origin[CHUNK + WORDS], left[CHUNK + WORDS], right[CHUNK + WORDS], result[CHUNK + WORDS];
    __mmask32 mask[CHUNK / WORDS];
    __m512 low0 = _mm512_set1_ps(rule->low[0]), low1 = _mm512_set1_ps(rule->low[1]);
    int count = 0;
    for (int i = 0; i < CHUNK; i += WORDS) {
        __m512i base_words = words(base + i), left_words = words(models[0] + i), right_words = words(models[1] + i);
        __mmask32 first = reaches(left_words, base_words, low0), second = reaches(right_words, base_words, low1);
        if (rule->keep) {
            first &= drawn(random[0] + i, rule->keep);
            second &= drawn(random[1] + i, rule->keep);
        }
        /* Where the base is 0 the result is computed too: the sum decides whether it is 0 or -0. */
        __mmask32 kept = first | second | _mm512_testn_epi16_mask(base_words, _mm512_set1_epi16(0x7FFF));
        _mm512_storeu_si512(origin + count, _mm512_maskz_compress_epi16(kept, base_words));
        left_words = _mm512_mask_mov_epi16(base_words, first, left_words);
        right_words = _mm512_mask_mov_epi16(base_words, second, right_words);
        _mm512_storeu_si512(left + count, _mm512_maskz_compress_epi16(kept, left_words));
        _mm512_storeu_si512(right + count, _mm512_maskz_compress_epi16(kept, right_words));
        mask[i / WORDS] = kept;
        count += __builtin_popcount(kept);
    }
    memset(origin + count, 0, WORDS * sizeof(uint16_t));
    memset(left + count, 0, WORDS * sizeof(uint16_t));
    memset(right + count, 0, WORDS * sizeof(uint16_t));
    if (rule->elect && rule->exact) sums(rule, origin, left, right, count, result, 1, 1);
    else if (rule->elect) sums(rule, origin, left, right, count, result, 1, 0);
    else if (rule->exact) sums(rule, origin, left, right, count, result, 0, 1);
    else sums(rule, origin, left, right, count, result, 0, 0);
    count = 0;
    for (int i = 0; i < CHUNK; i += WORDS) {
        __m512i all = _mm512_mask_expand_epi16(words(base + i), mask[i / WORDS], words(result + count));
        _mm512_storeu_si512(out + i, all);
        count += __builtin_popcount(mask[i / WORDS]);
    }
}
#define PACKED (simd_level > 1 ? packed_vbmi2 : NULL)
#else
#define PACKED NULL
#endif
