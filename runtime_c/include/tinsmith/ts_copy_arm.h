/* Copies and fills of cores with the DSP extension that load words from any address; a part of ts_simd.h. */
#ifndef TS_COPY_ARM_H
#define TS_COPY_ARM_H

#include <stdint.h>
#include <string.h>

#include "tinsmith/ts_words.h"

/* So few bytes, as the compiler sees, that they are copied without a loop. */
#define TS_SHORT(bytes) (__builtin_constant_p(bytes) && (bytes) <= 48)

/* Copies forward, 16 bytes a turn; the regions may overlap when `to` is before `from`. What it executes
 * depends on `bytes` alone, not on the compiler. */
__attribute__((always_inline)) static inline void ts_copy_s8(
    int8_t *to, const int8_t *from, int32_t bytes)
{
    if (TS_SHORT(bytes)) {
        int32_t i = 0;
#pragma GCC unroll 12
        for (; i + 4 <= bytes; i += 4) {
            ts_store_u32(to + i, ts_load_u32(from + i));
        }
        if (bytes & 2) {
            memcpy(to + i, from + i, 2);
            i += 2;
        }
        if (bytes & 1) {
            to[i] = from[i];
        }
        return;
    }
    uint32_t a, b, c, d;
    __asm volatile(
        "subs %[bytes], #16\n blt 2f\n"
        "1:\n"
        "ldr %[a], [%[from], #4]\n ldr %[b], [%[from], #8]\n"
        "ldr %[c], [%[from], #12]\n ldr %[d], [%[from]], #16\n"
        "str %[a], [%[to], #4]\n str %[b], [%[to], #8]\n"
        "str %[c], [%[to], #12]\n str %[d], [%[to]], #16\n"
        "subs %[bytes], #16\n bge 1b\n"
        "2:\n"
        "adds %[bytes], #12\n bmi 4f\n"
        "3:\n"
        "ldr %[a], [%[from]], #4\n str %[a], [%[to]], #4\n"
        "subs %[bytes], #4\n bge 3b\n"
        "4:\n"
        "adds %[bytes], #4\n ble 6f\n"
        "5:\n"
        "ldrb %[a], [%[from]], #1\n strb %[a], [%[to]], #1\n"
        "subs %[bytes], #1\n bne 5b\n"
        "6:\n"
        : [to] "+r"(to), [from] "+r"(from), [bytes] "+r"(bytes), [a] "=&r"(a), [b] "=&r"(b),
          [c] "=&r"(c), [d] "=&r"(d)
        :
        : "cc", "memory");
}

__attribute__((always_inline)) static inline void ts_fill_s8(
    int8_t *to, int8_t value, int32_t bytes)
{
    uint32_t word = 0x01010101u * (uint8_t)value;
    if (TS_SHORT(bytes)) {
        int32_t i = 0;
#pragma GCC unroll 12
        for (; i + 4 <= bytes; i += 4) {
            ts_store_u32(to + i, word);
        }
        if (bytes & 2) {
            memcpy(to + i, &word, 2);
            i += 2;
        }
        if (bytes & 1) {
            to[i] = value;
        }
        return;
    }
    __asm volatile(
        "subs %[bytes], #16\n blt 2f\n"
        "1:\n"
        "str %[word], [%[to], #4]\n str %[word], [%[to], #8]\n"
        "str %[word], [%[to], #12]\n str %[word], [%[to]], #16\n"
        "subs %[bytes], #16\n bge 1b\n"
        "2:\n"
        "adds %[bytes], #12\n bmi 4f\n"
        "3:\n"
        "str %[word], [%[to]], #4\n subs %[bytes], #4\n bge 3b\n"
        "4:\n"
        "adds %[bytes], #4\n ble 6f\n"
        "5:\n"
        "strb %[word], [%[to]], #1\n subs %[bytes], #1\n bne 5b\n"
        "6:\n"
        : [to] "+r"(to), [bytes] "+r"(bytes)
        : [word] "r"(word)
        : "cc", "memory");
}

#endif
