#include "sha256.h"

static const uint32_t first[8] = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                                  0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};

static const uint32_t round_constants[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u,
    0xab1c5ed5u, 0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu,
    0x9bdc06a7u, 0xc19bf174u, 0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu,
    0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau, 0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u,
    0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u, 0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu,
    0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u, 0xa2bfe8a1u, 0xa81a664bu,
    0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u, 0x19a4c116u,
    0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u,
    0xc67178f2u};

static uint32_t rotated(uint32_t x, uint32_t by)
{
    return (x >> by) | (x << (32u - by));
}

static void take_block(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64];
    for (uint32_t i = 0; i < 16; ++i) {
        const uint8_t *const b = block + 4u * i;
        w[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    }
    for (uint32_t i = 16; i < 64; ++i) {
        const uint32_t s0 = rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ (w[i - 15] >> 3);
        const uint32_t s1 = rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ (w[i - 2] >> 10);
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (uint32_t i = 0; i < 64; ++i) {
        const uint32_t s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
        const uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + round_constants[i] + w[i];
        const uint32_t s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
        const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

void ts_sha256_start(ts_sha256 *hash)
{
    for (uint32_t i = 0; i < 8; ++i) {
        hash->state[i] = first[i];
    }
    hash->bytes = 0;
}

void ts_sha256_add(ts_sha256 *hash, const uint8_t *data, uint32_t bytes)
{
    while (bytes > 0) {
        const uint32_t held = (uint32_t)(hash->bytes % 64u);
        if (held == 0 && bytes >= 64) {
            take_block(hash->state, data);
            hash->bytes += 64, data += 64, bytes -= 64;
            continue;
        }
        hash->block[held] = *data++;
        ++hash->bytes, --bytes;
        if (held == 63) {
            take_block(hash->state, hash->block);
        }
    }
}

void ts_sha256_finish(ts_sha256 *hash, uint8_t digest[32])
{
    const uint64_t bits = hash->bytes * 8u;
    const uint8_t one = 0x80, zero = 0;
    uint8_t length[8];
    for (uint32_t i = 0; i < 8; ++i) {
        length[i] = (uint8_t)(bits >> (56u - 8u * i));
    }
    ts_sha256_add(hash, &one, 1);
    while (hash->bytes % 64u != 56) {
        ts_sha256_add(hash, &zero, 1);
    }
    ts_sha256_add(hash, length, sizeof length);
    for (uint32_t i = 0; i < 32; ++i) {
        digest[i] = (uint8_t)(hash->state[i / 4] >> (24u - 8u * (i % 4)));
    }
}
