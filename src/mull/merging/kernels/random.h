/* Random numbers without state; random_numbers.py has the same in numpy. */

#include "common.h"

/* Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): the CHUNK numbers of a stream
 * that begin at number 4 * counter, since each counter gives four numbers. `key` holds two words. The
 * names x0 to x3 (counter) and k0, k1 (key) are those of random_numbers.py. */
typedef void Philox(uint32_t *out, uint64_t counter, uint32_t stream, const uint32_t *key);

#if defined(__x86_64__)
#include <immintrin.h>

/* Written with intrinsics because compilers do not find the instruction that multiplies the lower halves of 64-bit
 * lanes in plain C. The upper halves of the lanes may hold anything: they are not read. TOGETHER vectors are computed
 * side by side, because each round must wait for the round before it. LOW and HIGH interleave two vectors; `places` is
 * the order of the counters that makes their results come out in sequence. */
#define TOGETHER 4
#define PHILOX(name, TARGET, VECTOR, BITS, MULTIPLY, LOW, HIGH, ...) \
    typedef uint64_t name##_lanes __attribute__((vector_size(BITS / 8))); \
    TARGET static void name(uint32_t *out, uint64_t counter, uint32_t stream, const uint32_t *key) { \
        const name##_lanes zero = {0}, places = {__VA_ARGS__}, lower = zero + 0xFFFFFFFFu; \
        const VECTOR left = (VECTOR)(zero + 0xD2511F53u), right = (VECTOR)(zero + 0xCD9E8D57u); \
        for (int i = 0; i < CHUNK; i += TOGETHER * BITS / 16) { \
            name##_lanes x0[TOGETHER], x1[TOGETHER], x2[TOGETHER], x3[TOGETHER]; \
            name##_lanes k0 = zero + key[0], k1 = zero + key[1]; \
            for (int j = 0; j < TOGETHER; j++) { \
                x0[j] = places + (counter + (uint64_t)(i / 4 + j * BITS / 64)); \
                x1[j] = x0[j] >> 32; \
                x2[j] = zero + stream; \
                x3[j] = zero; \
            } \
            _Pragma("GCC unroll 10") for (int round = 0; round < 10; round++) { \
                _Pragma("GCC unroll 4") for (int j = 0; j < TOGETHER; j++) { \
                    name##_lanes left_product = (name##_lanes)MULTIPLY((VECTOR)x0[j], left); \
                    name##_lanes right_product = (name##_lanes)MULTIPLY((VECTOR)x2[j], right); \
                    x0[j] = (right_product >> 32) ^ x1[j] ^ k0; \
                    x2[j] = (left_product >> 32) ^ x3[j] ^ k1; \
                    x1[j] = right_product; \
                    x3[j] = left_product; \
                } \
                k0 += 0x9E3779B9u; \
                k1 += 0xBB67AE85u; \
            } \
            _Pragma("GCC unroll 4") for (int j = 0; j < TOGETHER; j++) { \
                VECTOR first = (VECTOR)((x0[j] & lower) | (x1[j] << 32)); \
                VECTOR second = (VECTOR)((x2[j] & lower) | (x3[j] << 32)); \
                VECTOR low = LOW(first, second), high = HIGH(first, second); \
                memcpy(out + i + j * BITS / 16, &low, sizeof low); \
                memcpy(out + i + j * BITS / 16 + BITS / 32, &high, sizeof high); \
            } \
        } \
    }

PHILOX(philox_fma, FMA_CODE, __m256i, 256, _mm256_mul_epu32, _mm256_unpacklo_epi64, _mm256_unpackhi_epi64, 0, 2, 1, 3)
PHILOX(philox_avx512, AVX512_CODE, __m512i, 512, _mm512_mul_epu32, _mm512_unpacklo_epi64, _mm512_unpackhi_epi64, 0, 4,
       1, 5, 2, 6, 3, 7)

#else

static void philox_fma(uint32_t *out, uint64_t counter, uint32_t stream, const uint32_t *key) {
    uint32_t k0[10], k1[10];
    for (uint32_t round = 0; round < 10; round++) {
        k0[round] = key[0] + round * 0x9E3779B9u;
        k1[round] = key[1] + round * 0xBB67AE85u;
    }
    for (uint32_t i = 0; i < CHUNK / 4; i++) {
        uint32_t x0 = (uint32_t)(counter + i), x1 = (uint32_t)((counter + i) >> 32), x2 = stream, x3 = 0;
        for (int round = 0; round < 10; round++) {
            uint64_t left_product = (uint64_t)x0 * 0xD2511F53u, right_product = (uint64_t)x2 * 0xCD9E8D57u;
            x0 = (uint32_t)(right_product >> 32) ^ x1 ^ k0[round];
            x2 = (uint32_t)(left_product >> 32) ^ x3 ^ k1[round];
            x1 = (uint32_t)right_product;
            x3 = (uint32_t)left_product;
        }
        uint32_t four[4] = {x0, x1, x2, x3};
        memcpy(out + 4 * i, four, sizeof four);
    }
}
#define philox_avx512 philox_fma

#endif
