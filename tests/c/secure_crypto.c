/* Prints SHA-256 of prefixes of its input, three blocks of ChaCha20 and three pads, in hexadecimal. */
#include <stdio.h>
#include <string.h>

#include "chacha20.h"
#include "sha256.h"
#include "ts_secure.h"

static int has_entropy;

int ts_entropy(void *data, uint32_t bytes)
{
    memset(data, 0, bytes);
    return has_entropy;
}

static void print(const uint8_t *data, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; ++i) {
        printf("%02x", data[i]);
    }
    printf("\n");
}

static void print_block(const uint32_t key[8], uint32_t counter, const uint32_t nonce[3])
{
    uint32_t block[16];
    uint8_t bytes[64];
    ts_chacha20_block(key, counter, nonce, block);
    for (uint32_t i = 0; i < 64; ++i) {
        bytes[i] = (uint8_t)(block[i / 4] >> 8 * (i % 4));
    }
    print(bytes, sizeof bytes);
}

int main(void)
{
    static const uint32_t lengths[] = {0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 300};
    static const uint32_t zeros[8];
    static const uint32_t nonce[3] = {0x09000000u, 0x4a000000u, 0};
    uint8_t data[300], digest[32];
    uint32_t key[8];
    if (fread(data, 1, sizeof data, stdin) != sizeof data) {
        return 1;
    }
    for (uint32_t i = 0; i < sizeof lengths / sizeof *lengths; ++i) {
        ts_sha256 hash;
        ts_sha256_start(&hash);
        ts_sha256_add(&hash, data, lengths[i] / 3); /* in two pieces */
        ts_sha256_add(&hash, data + lengths[i] / 3, lengths[i] - lengths[i] / 3);
        ts_sha256_finish(&hash, digest);
        print(digest, sizeof digest);
    }
    for (uint32_t i = 0; i < 8; ++i) {
        key[i] = 0x03020100u + 0x04040404u * i;
    }
    print_block(key, 1, nonce);
    print_block(zeros, 0, zeros);
    print_block(zeros, 1, zeros);
    if (ts_draw_pad(data, 32)) { /* without entropy */
        return 2;
    }
    has_entropy = 1;
    for (uint32_t i = 0; i < 3; ++i) {
        if (!ts_draw_pad(data, 80)) {
            return 3;
        }
        print(data, 80);
    }
    return 0;
}
