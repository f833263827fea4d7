/* HMAC-SHA256 (RFC 2104, FIPS 198-1) with a key of 32 bytes, and the comparison of two codes. */
#ifndef TS_HMAC_H
#define TS_HMAC_H

#include "sha256.h"

enum { TS_MAC_BYTES = 32, TS_MAC_KEY_BYTES = 32 };

typedef struct {
    ts_sha256 hash; /* of the inner key block and the data */
    const volatile uint8_t *key;
} ts_hmac;

/* key: TS_MAC_KEY_BYTES bytes that stay until ts_hmac_finish. */
void ts_hmac_start(ts_hmac *mac, const volatile uint8_t *key);
void ts_hmac_add(ts_hmac *mac, const void *data, uint32_t bytes);

/* Writes the code, and wipes what `mac` held of the key. */
void ts_hmac_finish(ts_hmac *mac, uint8_t code[TS_MAC_BYTES]);

/* 0 where both codes are the same. Looks at every byte, whatever the first ones are. */
uint32_t ts_macs_differ(const volatile uint8_t *a, const volatile uint8_t *b);

/* The key of this device's updates: of stores, deltas and states that leave the secure world. From
 * the root secret, the model and the device (trust/keys.py); generated, in this image alone. */
extern const volatile uint8_t ts_update_key[TS_MAC_KEY_BYTES];

#endif
