/* Byte pairs and short copies for tuned kernels. */
#ifndef TS_SIMD_H
#define TS_SIMD_H

#include <stdint.h>

#include "tinsmith/ts_words.h"

#if defined(__ARM_FEATURE_SIMD32)
#include <arm_acle.h>
#endif
#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#endif

/* Keeps the compiler from turning the loop around it into a call of memcpy or memset, which small C
 * libraries implement byte by byte. */
#if defined(__ARM_ARCH_6M__)
#define TS_KEEP(word) __asm volatile("" : "+l"(word)) /* one of those that calculate */
#elif defined(__GNUC__)
#define TS_KEEP(word) __asm volatile("" : "+r"(word))
#else
#define TS_KEEP(word) (void)(word)
#endif

/* Where words must be aligned: reading them byte by byte costs more than bytes do. */
#if (defined(__arm__) && !defined(__ARM_FEATURE_UNALIGNED)) || defined(__riscv)
#define TS_WORDS_MUST_BE_ALIGNED 1
#define TS_ALIGNED(pointer) __builtin_assume_aligned(pointer, 4)
#else
#define TS_WORDS_MUST_BE_ALIGNED 0
#define TS_ALIGNED(pointer) (pointer)
#endif

#if defined(__ARM_FEATURE_MVE)
/* Few whole words or vectors, as the compiler sees: no loop. */
#define TS_FEW(bytes, size, most) \
    (__builtin_constant_p(bytes) && (bytes) % (size) == 0 && (bytes) <= (most) * (size))

/* Copies forward, 16 bytes a turn of a tail-predicated loop; the regions may overlap when `to` is
 * before `from`. What it executes depends on `bytes` alone, not on the compiler. */
static inline void ts_copy_s8(int8_t *to, const int8_t *from, int32_t bytes)
{
    if (TS_FEW(bytes, 4, 2)) {
#pragma GCC unroll 2
        for (int32_t i = 0; i < bytes; i += 4) {
            ts_store_u32(to + i, ts_load_u32(from + i));
        }
        return;
    }
    if (TS_FEW(bytes, 16, 4)) {
#pragma GCC unroll 4
        for (int32_t i = 0; i < bytes; i += 16) {
            vstrbq_s8(to + i, vldrbq_s8(from + i));
        }
        return;
    }
    __asm volatile(
        "wlstp.8 lr, %[bytes], 2f\n"
        "1:\n"
        "vldrb.u8 q0, [%[from]], #16\n"
        "vstrb.8 q0, [%[to]], #16\n"
        "letp lr, 1b\n"
        "2:\n"
        : [to] "+r"(to), [from] "+r"(from)
        : [bytes] "r"(bytes)
        : "q0", "lr", "memory");
}

static inline void ts_fill_s8(int8_t *to, int8_t value, int32_t bytes)
{
    if (TS_FEW(bytes, 4, 2)) {
#pragma GCC unroll 2
        for (int32_t i = 0; i < bytes; i += 4) {
            ts_store_u32(to + i, 0x01010101u * (uint8_t)value);
        }
        return;
    }
    if (TS_FEW(bytes, 16, 4)) {
#pragma GCC unroll 4
        for (int32_t i = 0; i < bytes; i += 16) {
            vstrbq_s8(to + i, vdupq_n_s8(value));
        }
        return;
    }
    __asm volatile(
        "vdup.8 q0, %[value]\n"
        "wlstp.8 lr, %[bytes], 2f\n"
        "1:\n"
        "vstrb.8 q0, [%[to]], #16\n"
        "letp lr, 1b\n"
        "2:\n"
        : [to] "+r"(to)
        : [bytes] "r"(bytes), [value] "r"((int32_t)value)
        : "q0", "lr", "memory");
}
#elif defined(__ARM_FEATURE_SIMD32) && !TS_WORDS_MUST_BE_ALIGNED
#include "tinsmith/ts_copy_arm.h"
#else
/* Copies forward, 16 bytes at a time; the regions may overlap when `to` is before `from`. */
static inline void ts_copy_s8(int8_t *to, const int8_t *from, int32_t bytes)
{
    int32_t i = 0;
#if TS_WORDS_MUST_BE_ALIGNED
    const int32_t words = (((uintptr_t)to | (uintptr_t)from) & 3) == 0 ? bytes : 0;
#else
    const int32_t words = bytes;
#endif
    for (; i + 16 <= words; i += 16) {
        uint32_t a = ts_load_u32(TS_ALIGNED(from + i)), b = ts_load_u32(TS_ALIGNED(from + i + 4));
        uint32_t c = ts_load_u32(TS_ALIGNED(from + i + 8)), d = ts_load_u32(TS_ALIGNED(from + i + 12));
        TS_KEEP(a);
        ts_store_u32(TS_ALIGNED(to + i), a);
        ts_store_u32(TS_ALIGNED(to + i + 4), b);
        ts_store_u32(TS_ALIGNED(to + i + 8), c);
        ts_store_u32(TS_ALIGNED(to + i + 12), d);
    }
    for (; i + 4 <= words; i += 4) {
        uint32_t word = ts_load_u32(TS_ALIGNED(from + i));
        TS_KEEP(word);
        ts_store_u32(TS_ALIGNED(to + i), word);
    }
    for (; i < bytes; ++i) {
        uint32_t byte = (uint8_t)from[i];
        TS_KEEP(byte);
        to[i] = (int8_t)byte;
    }
}

static inline void ts_fill_s8(int8_t *to, int8_t value, int32_t bytes)
{
    uint32_t word = 0x01010101u * (uint8_t)value;
    int32_t i = 0;
#if TS_WORDS_MUST_BE_ALIGNED
    const int32_t words = ((uintptr_t)to & 3) == 0 ? bytes : 0;
#else
    const int32_t words = bytes;
#endif
    for (; i + 16 <= words; i += 16) {
        TS_KEEP(word);
        ts_store_u32(TS_ALIGNED(to + i), word);
        ts_store_u32(TS_ALIGNED(to + i + 4), word);
        ts_store_u32(TS_ALIGNED(to + i + 8), word);
        ts_store_u32(TS_ALIGNED(to + i + 12), word);
    }
    for (; i + 4 <= words; i += 4) {
        TS_KEEP(word);
        ts_store_u32(TS_ALIGNED(to + i), word);
    }
    for (; i < bytes; ++i) {
        TS_KEEP(word);
        to[i] = value;
    }
}

#endif

static inline int32_t ts_min(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Two bytes as a pair of halves. */
static inline int32_t ts_halves(int8_t low, int8_t high)
{
    return (int32_t)((uint32_t)(uint16_t)low | ((uint32_t)(uint16_t)high << 16));
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

/* The same, added to a pair of halves. */
static inline int32_t ts_sxtab16(int32_t sums, uint32_t word)
{
    return (int32_t)__sxtab16((int16x2_t)sums, (int8x4_t)word);
}

static inline int32_t ts_sxtab16_ror8(int32_t sums, uint32_t word)
{
    return (int32_t)__sxtab16((int16x2_t)sums, (int8x4_t)((word >> 8) | (word << 24)));
}

/* Both products of two pairs of halves, added to a sum. */
static inline int32_t ts_smlad(int32_t a, int32_t b, int32_t sum)
{
    return __smlad((int16x2_t)a, (int16x2_t)b, sum);
}
#endif

/* Bit i: low <= p[i] <= high, for eight bytes. */
static inline uint32_t ts_between_s8(const int8_t *p, int8_t low, int8_t high)
{
    uint32_t bits = 0;
#if defined(__ARM_FEATURE_SIMD32)
    const int8x4_t lows = (int8x4_t)(0x01010101u * (uint8_t)low);
    const int8x4_t highs = (int8x4_t)(0x01010101u * (uint8_t)high);
    for (int32_t i = 0; i < 8; i += 4) {
        const int8x4_t word = (int8x4_t)ts_load_u32(p + i);
        (void)__ssub8(word, lows); /* sets a flag per byte: not negative */
        const uint8x4_t above = __sel(0x01010101u, 0);
        (void)__ssub8(highs, word);
        bits |= (__sel(above, 0) * 0x10204080u >> 28) << i; /* four bytes 0 or 1 to four bits */
    }
#else
    for (int32_t i = 0; i < 8; ++i) {
        bits |= (uint32_t)(p[i] >= low && p[i] <= high) << i;
    }
#endif
    return bits;
}

#endif
