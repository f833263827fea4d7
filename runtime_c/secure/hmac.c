#include "hmac.h"

enum { BLOCK_BYTES = 64, INNER = 0x36, OUTER = 0x5c };

/* The key, filled up with zeros to a block, with every byte changed by `pad`. */
static void start(ts_sha256 *hash, const volatile uint8_t *key, uint8_t pad)
{
    volatile uint8_t block[BLOCK_BYTES];
    for (uint32_t i = 0; i < BLOCK_BYTES; ++i) {
        block[i] = (uint8_t)((i < TS_MAC_KEY_BYTES ? key[i] : 0u) ^ pad);
    }
    ts_sha256_start(hash);
    ts_sha256_add(hash, (const uint8_t *)block, BLOCK_BYTES);
    for (uint32_t i = 0; i < BLOCK_BYTES; ++i) {
        block[i] = 0;
    }
}

static void wipe(void *data, uint32_t bytes)
{
    volatile uint8_t *const byte = data;
    for (uint32_t i = 0; i < bytes; ++i) {
        byte[i] = 0;
    }
}

void ts_hmac_start(ts_hmac *mac, const volatile uint8_t *key)
{
    mac->key = key;
    start(&mac->hash, key, INNER);
}

void ts_hmac_add(ts_hmac *mac, const void *data, uint32_t bytes)
{
    ts_sha256_add(&mac->hash, data, bytes);
}

void ts_hmac_finish(ts_hmac *mac, uint8_t code[TS_MAC_BYTES])
{
    uint8_t inner[TS_MAC_BYTES];
    ts_sha256_finish(&mac->hash, inner);
    start(&mac->hash, mac->key, OUTER);
    ts_sha256_add(&mac->hash, inner, sizeof inner);
    ts_sha256_finish(&mac->hash, code);
    wipe(inner, sizeof inner);
    wipe(mac, sizeof *mac);
}

uint32_t ts_macs_differ(const volatile uint8_t *a, const volatile uint8_t *b)
{
    uint32_t difference = 0;
    for (uint32_t i = 0; i < TS_MAC_BYTES; ++i) {
        difference |= (uint32_t)a[i] ^ b[i];
    }
    return difference;
}
