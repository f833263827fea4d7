#include "sealed.h"

#include "chacha20.h"

enum { DOMAIN_BYTES = 18, BASE_HASH_BYTES = 32 };
static const char of_code[DOMAIN_BYTES] = "tinsmith sealed 1";
static const char of_key[DOMAIN_BYTES] = "tinsmith sealed 2";

static void wipe(void *data, uint32_t bytes)
{
    volatile uint8_t *const byte = data;
    for (uint32_t i = 0; i < bytes; ++i) {
        byte[i] = 0;
    }
}

static void code_of(const uint8_t *state, uint32_t bytes, const uint8_t *base_hash, uint8_t *code)
{
    ts_hmac mac;
    ts_hmac_start(&mac, ts_update_key);
    ts_hmac_add(&mac, of_code, DOMAIN_BYTES);
    ts_hmac_add(&mac, base_hash, BASE_HASH_BYTES);
    ts_hmac_add(&mac, state, bytes);
    ts_hmac_finish(&mac, code);
}

/* Adds the key stream of the code, or takes it away. */
static void cover(uint8_t *state, uint32_t bytes, const uint8_t *code)
{
    static const uint32_t nonce[3];
    uint32_t block[16];
    union {
        uint8_t bytes[TS_MAC_BYTES];
        uint32_t words[TS_MAC_BYTES / 4];
    } key;
    ts_hmac mac;
    ts_hmac_start(&mac, ts_update_key);
    ts_hmac_add(&mac, of_key, DOMAIN_BYTES);
    ts_hmac_add(&mac, code, TS_SEALED_CODE_BYTES);
    ts_hmac_finish(&mac, key.bytes);
    for (uint32_t i = 0; i < bytes; ++i) {
        if (i % sizeof block == 0) {
            ts_chacha20_block(key.words, i / (uint32_t)sizeof block, nonce, block);
        }
        state[i] = (uint8_t)(state[i] ^ ((const uint8_t *)block)[i % sizeof block]);
    }
    wipe(block, sizeof block);
    wipe(&key, sizeof key);
}

void ts_seal(uint8_t *blob, uint32_t bytes, const uint8_t *base_hash)
{
    uint8_t *const state = blob + TS_SEALED_CODE_BYTES;
    code_of(state, bytes, base_hash, blob);
    cover(state, bytes, blob);
}

uint32_t ts_unseal(uint8_t *blob, uint32_t bytes, const uint8_t *base_hash)
{
    uint8_t *const state = blob + TS_SEALED_CODE_BYTES;
    uint8_t code[TS_SEALED_CODE_BYTES];
    cover(state, bytes, blob);
    code_of(state, bytes, base_hash, code);
    return TS_UNSEALED ^ ts_macs_differ(code, blob);
}

uint32_t ts_unsealed_again(const uint8_t *blob, uint32_t bytes, const uint8_t *base_hash)
{
    uint8_t code[TS_SEALED_CODE_BYTES];
    uint32_t same = 0;
    code_of(blob + TS_SEALED_CODE_BYTES, bytes, base_hash, code);
    for (uint32_t i = TS_SEALED_CODE_BYTES; i > 0; --i) {
        same += code[i - 1] == blob[i - 1];
    }
    return TS_UNSEALED_AGAIN + (same - TS_SEALED_CODE_BYTES) * 0x01000193u;
}

uint32_t ts_sealed_nothing(const uint8_t *blob, uint32_t bytes)
{
    uint32_t any = 0;
    for (uint32_t i = 0; i < TS_SEALED_CODE_BYTES + bytes; ++i) {
        any |= blob[i];
    }
    return any;
}
