/* SHA-256 (FIPS 180-4). */
#ifndef TS_SHA256_H
#define TS_SHA256_H

#include <stdint.h>

typedef struct {
    uint32_t state[8];
    uint64_t bytes; /* taken so far */
    uint8_t block[64];
} ts_sha256;

void ts_sha256_start(ts_sha256 *hash);
void ts_sha256_add(ts_sha256 *hash, const uint8_t *data, uint32_t bytes);
void ts_sha256_finish(ts_sha256 *hash, uint8_t digest[32]);

#endif
