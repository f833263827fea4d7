/* Pads of one use, from the key stream of a key that each block replaces: what is drawn later does
 * not tell what was drawn before. */
#include <string.h>

#include "chacha20.h"
#include "ts_secure.h"

static uint32_t key[8];
static uint32_t seeded;

__attribute__((weak)) int ts_entropy(void *data, uint32_t bytes)
{
    (void)data, (void)bytes;
    return 0;
}

static void next_block(uint32_t fresh[8])
{
    static const uint32_t nonce[3];
    uint32_t block[16];
    ts_chacha20_block(key, 0, nonce, block);
    memcpy(key, block, sizeof key);
    memcpy(fresh, block + 8, 8 * sizeof *fresh);
    for (uint32_t i = 0; i < 16; ++i) {
        *(volatile uint32_t *)&block[i] = 0;
    }
}

int ts_draw_pad(void *pad, uint32_t bytes)
{
    uint32_t fresh[8];
    if (!seeded && !ts_entropy(key, sizeof key)) {
        return 0;
    }
    seeded = 1;
    for (uint32_t at = 0; at < bytes; at += (uint32_t)sizeof fresh) {
        const uint32_t left = bytes - at;
        next_block(fresh);
        memcpy((uint8_t *)pad + at, fresh, left < sizeof fresh ? left : sizeof fresh);
    }
    for (uint32_t i = 0; i < 8; ++i) {
        *(volatile uint32_t *)&fresh[i] = 0;
    }
    return 1;
}
