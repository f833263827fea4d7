/* Pads of one use, from the key stream of a key that each pad replaces: what is drawn later does not
 * tell what was drawn before. */
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

static void wipe(uint32_t *words, uint32_t count)
{
    for (uint32_t i = 0; i < count; ++i) {
        *(volatile uint32_t *)&words[i] = 0;
    }
}

int ts_draw_pad(void *pad, uint32_t bytes)
{
    static const uint32_t nonce[3];
    uint32_t block[16], counter = 1;
    if (!seeded && !ts_entropy(key, sizeof key)) {
        return 0;
    }
    seeded = 1;
    for (uint32_t at = 0; at < bytes; at += (uint32_t)sizeof block) {
        const uint32_t left = bytes - at;
        ts_chacha20_block(key, counter++, nonce, block);
        memcpy((uint8_t *)pad + at, block, left < sizeof block ? left : sizeof block);
    }
    ts_chacha20_block(key, 0, nonce, block);
    memcpy(key, block, sizeof key);
    wipe(block, 16);
    return 1;
}
