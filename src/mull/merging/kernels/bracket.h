/* Collects the sizes that lie between two bounds; order_statistics.py does the same in numpy. */

#include "common.h"

/* The bounds low <= high, and what was found so far. */
typedef struct {
    float low, high, *out;
    Py_ssize_t room;          /* how many floats fit in `out` */
    Py_ssize_t within, above; /* sizes in [low, high], whether or not there was room for them; sizes > high */
} Bracket;

/* Looks at CHUNK sizes: appends those in [low, high] to `out` while there is room, in order, and counts those within
 * and those above. NaN counts as neither. `size` must not overlap `out`. */
typedef void Pick(Bracket *bracket, const float *size);

INLINE void pick_any(Bracket *bracket, const float *size) {
    uint8_t inside[CHUNK];
    float low = bracket->low, high = bracket->high;
    int above = 0;
    for (int i = 0; i < CHUNK; i++) above += size[i] > high;
    for (int i = 0; i < CHUNK; i++) inside[i] = (size[i] >= low) & (size[i] <= high);
    bracket->above += above;
    for (int group = 0; group < CHUNK; group += 8) {
        uint64_t ones;
        memcpy(&ones, inside + group, 8);
        for (; ones; ones &= ones - 1) { /* once for each size within: they are few */
            int i = __builtin_ctzll(ones) / 8;
            if (bracket->within < bracket->room) bracket->out[bracket->within] = size[group + i];
            bracket->within++;
        }
    }
}

VARIANTS(pick, (Bracket *bracket, const float *size), (bracket, size))

#if defined(__x86_64__)
#include <immintrin.h>

/* The same without branches: here mispredicted branches cost more than everything else. It writes whole vectors, so it
 * needs room for CHUNK more sizes. */
AVX512_CODE static void pick_compress(Bracket *bracket, const float *size) {
    if (bracket->room - bracket->within < CHUNK) {
        pick_avx512(bracket, size);
        return;
    }
    __m512 low = _mm512_set1_ps(bracket->low), high = _mm512_set1_ps(bracket->high);
    float *out = bracket->out + bracket->within;
    __m512i large = _mm512_setzero_si512(), one = _mm512_set1_epi32(1);
    for (int i = 0; i < CHUNK; i += 16) {
        __m512 sizes = _mm512_loadu_ps(size + i);
        __mmask16 reached = _mm512_cmp_ps_mask(sizes, low, _CMP_GE_OQ);
        __mmask16 inside = _mm512_mask_cmp_ps_mask(reached, sizes, high, _CMP_LE_OQ);
        _mm512_storeu_ps(out, _mm512_maskz_compress_ps(inside, sizes));
        out += _mm_popcnt_u32(inside);
        large = _mm512_mask_add_epi32(large, reached, large, one);
    }
    bracket->above += _mm512_reduce_add_epi32(large) - (out - bracket->out - bracket->within);
    bracket->within = out - bracket->out;
}
#else
#define pick_compress pick_avx512
#endif
