/* Words, byte pairs and short copies for tuned kernels. */
#ifndef TINSMITH_TS_SIMD_H
#define TINSMITH_TS_SIMD_H

#include <stdint.h>
#include <string.h>

#if defined(__ARM_FEATURE_SIMD32)
#include <arm_acle.h>
#endif
#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#endif

/* Four bytes at any address. */
static inline uint32_t ts_load_u32(const int8_t *p)
{
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

static inline void ts_store_u32(int8_t *p, uint32_t word)
{
    memcpy(p, &word, sizeof word);
}

/* Copies forward, word by word; the regions may overlap when `to` is before `from`. */
static inline void ts_copy_s8(int8_t *to, const int8_t *from, int32_t bytes)
{
    int32_t i = 0;
    for (; i + 4 <= bytes; i += 4) {
        ts_store_u32(to + i, ts_load_u32(from + i));
    }
    for (; i < bytes; ++i) {
        to[i] = from[i];
    }
}

static inline void ts_fill_s8(int8_t *to, int8_t value, int32_t bytes)
{
    const uint32_t word = 0x01010101u * (uint8_t)value;
    int32_t i = 0;
    for (; i + 4 <= bytes; i += 4) {
        ts_store_u32(to + i, word);
    }
    for (; i < bytes; ++i) {
        to[i] = value;
    }
}

static inline int32_t ts_min(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

#if defined(__ARM_FEATURE_SIMD32)
/* Bytes 0 and 2 (or 1 and 3) of a word, sign-extended to a pair of halves. */
static inline int32_t ts_sxtb16(uint32_t word)
{
    return (int32_t)__sxtb16((int8x4_t)word);
}

static inline int32_t ts_sxtb16_ror8(uint32_t word)
{
    return (int32_t)__sxtb16((int8x4_t)((word >> 8) | (word << 24)));
}
#endif

#endif
