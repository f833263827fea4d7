#include "chacha20.h"

static uint32_t rotated(uint32_t x, uint32_t by)
{
    return (x << by) | (x >> (32u - by));
}

static void quarter_round(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
    *a += *b, *d = rotated(*d ^ *a, 16);
    *c += *d, *b = rotated(*b ^ *c, 12);
    *a += *b, *d = rotated(*d ^ *a, 8);
    *c += *d, *b = rotated(*b ^ *c, 7);
}

void ts_chacha20_block(const uint32_t key[8], uint32_t counter, const uint32_t nonce[3],
                       uint32_t block[16])
{
    const uint32_t start[16] = {0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u,
                                key[0],      key[1],      key[2],      key[3],
                                key[4],      key[5],      key[6],      key[7],
                                counter,     nonce[0],    nonce[1],    nonce[2]};
    for (uint32_t i = 0; i < 16; ++i) {
        block[i] = start[i];
    }
    for (uint32_t twice = 0; twice < 10; ++twice) {
        for (uint32_t i = 0; i < 4; ++i) {
            quarter_round(block + i, block + 4 + i, block + 8 + i, block + 12 + i);
        }
        for (uint32_t i = 0; i < 4; ++i) {
            quarter_round(block + i, block + 4 + (i + 1) % 4, block + 8 + (i + 2) % 4,
                          block + 12 + (i + 3) % 4);
        }
    }
    for (uint32_t i = 0; i < 16; ++i) {
        block[i] += start[i];
    }
}
