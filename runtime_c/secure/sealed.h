/* What secure layers have learnt, outside of the secure memory: authentic, and not to be read.
 *
 *     blob  = code [32], cipher
 *     code  = HMAC-SHA256(update key, "tinsmith sealed 1" and a zero, base hash [32], state)
 *     cipher = state + ChaCha20(HMAC-SHA256(update key, "tinsmith sealed 2" and a zero, code))
 *
 * The code is the nonce as well: no entropy is needed, and two states never share a key stream. A
 * blob of zeros stands for the state of compile time. */
#ifndef TS_SEALED_H
#define TS_SEALED_H

#include "hmac.h"

enum { TS_SEALED_CODE_BYTES = TS_MAC_BYTES };

/* blob: TS_SEALED_CODE_BYTES + bytes, whose state, after the code, is sealed in place. */
void ts_seal(uint8_t *blob, uint32_t bytes, const uint8_t *base_hash);

/* The inverse. Returns TS_UNSEALED for a blob that is authentic, else another word. */
uint32_t ts_unseal(uint8_t *blob, uint32_t bytes, const uint8_t *base_hash);
#define TS_UNSEALED 0x6B1D94E3u

/* The same question once more, in another form, of a blob that was unsealed: TS_UNSEALED_AGAIN. */
uint32_t ts_unsealed_again(const uint8_t *blob, uint32_t bytes, const uint8_t *base_hash);
#define TS_UNSEALED_AGAIN 0xD04A7B2Du

/* 0 for a blob of zeros. */
uint32_t ts_sealed_nothing(const uint8_t *blob, uint32_t bytes);

#endif
