/* Random numbers without state; random_numbers.py has the same in numpy. */

#include "common.h"

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
