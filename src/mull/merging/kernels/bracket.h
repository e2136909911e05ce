/* Those of LANES sizes that lie between two bounds. */

#include "common.h"

typedef struct {
    float low, high, *out;
    Py_ssize_t room, within, above;
} Bracket;

/* Writes those of LANES sizes that lie in the bracket while there is room; counts those within and those above. */
typedef void Pick(Bracket *b, const float *size);

INLINE void pick_any(Bracket *b, const float *size) {
    uint8_t inside[LANES];
    float low = b->low, high = b->high;
    int above = 0;
    for (int i = 0; i < LANES; i++) above += size[i] > high;
    for (int i = 0; i < LANES; i++) inside[i] = (size[i] >= low) & (size[i] <= high);
    b->above += above;
    for (int group = 0; group < LANES; group += 8) {
        uint64_t ones;
        memcpy(&ones, inside + group, 8);
        for (; ones; ones &= ones - 1) { /* few lie within */
            int i = __builtin_ctzll(ones) / 8;
            if (b->within < b->room) b->out[b->within] = size[group + i];
            b->within++;
        }
    }
}

VARIANTS(pick, (Bracket *b, const float *size), (b, size))

#if defined(__x86_64__)
#include <immintrin.h>

/* Without a branch for what cannot be foreseen, which costs more than all else. */
AVX512 static void pick_fastest(Bracket *b, const float *size) {
    if (b->room - b->within < LANES) {
        pick_faster(b, size);
        return;
    }
    __m512 low = _mm512_set1_ps(b->low), high = _mm512_set1_ps(b->high);
    float *out = b->out + b->within;
    __m512i large = _mm512_setzero_si512(), one = _mm512_set1_epi32(1);
    for (int i = 0; i < LANES; i += 16) {
        __m512 own = _mm512_loadu_ps(size + i);
        __mmask16 reached = _mm512_cmp_ps_mask(own, low, _CMP_GE_OQ);
        __mmask16 inside = _mm512_mask_cmp_ps_mask(reached, own, high, _CMP_LE_OQ);
        _mm512_storeu_ps(out, _mm512_maskz_compress_ps(inside, own));
        out += _mm_popcnt_u32(inside);
        large = _mm512_mask_add_epi32(large, reached, large, one);
    }
    b->above += _mm512_reduce_add_epi32(large) - (out - b->out - b->within);
    b->within = out - b->out;
}
#else
#define pick_fastest pick_faster
#endif
