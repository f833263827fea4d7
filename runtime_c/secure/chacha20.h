/* One block of ChaCha20 (RFC 8439, 2.3). */
#ifndef TS_CHACHA20_H
#define TS_CHACHA20_H

#include <stdint.h>

/* key: 8 words, nonce: 3, little-endian. block: 64 bytes as 16 words. */
void ts_chacha20_block(const uint32_t key[8], uint32_t counter, const uint32_t nonce[3],
                       uint32_t block[16]);

#endif
