/* Exact float32 steps of training: the bit-exact twin of the float arithmetic in ops/.
 *
 * Every operation is a single one of IEEE 754, rounded to nearest even, in the order written: build
 * without contraction into fused multiply-adds (-ffp-contract=off) and without -ffast-math. */
#ifndef TS_FLOAT_H
#define TS_FLOAT_H

#include <stdint.h>
#include <string.h>

#include "tinsmith/ts_requantize.h"

#if defined(__FAST_MATH__)
#error "training needs exact float arithmetic: build without -ffast-math"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

/* Memory accesses stay on their side of it. */
#if defined(__GNUC__)
#define TS_FENCE() __asm volatile("" ::: "memory")
#else
#include <stdatomic.h>
#define TS_FENCE() atomic_signal_fence(memory_order_seq_cst)
#endif

static inline uint32_t ts_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float ts_bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* 2^e for -126 <= e <= 127. */
static inline float ts_power_of_two(int32_t e)
{
    return ts_bits_float((uint32_t)(e + 127) << 23);
}

/* Whether x is neither infinite nor NaN. */
static inline int ts_is_finite(float x)
{
    return (ts_float_bits(x) & 0x7F800000u) != 0x7F800000u;
}

/* The smallest e >= -126 with |x| <= 127 * 2^e for the x of largest magnitude, given by its bits
 * without the sign; -126 when it is not finite. */
static inline int32_t ts_shared_exponent(uint32_t magnitude)
{
    const int32_t e = (int32_t)((magnitude + 0x1FFFFu) >> 23) - 133;
    return magnitude >= 0x7F800000u || e < -126 ? -126 : e;
}

/* Processors with a float unit round to an integer in one instruction, which saturates and takes what
 * is not a number to 0; it rounds as FPSCR says: to nearest even, unless somebody changed that. */
#if defined(__ARM_FP) && (__ARM_FP & 4) && defined(__GNUC__)
#define TS_FLOAT_UNIT 1
static inline int32_t ts_vcvtr(float x)
{
    float bits;
    __asm("vcvtr.s32.f32 %0, %1" : "=t"(bits) : "t"(x));
    return (int32_t)ts_float_bits(bits);
}
#endif

/* x to the nearest integer, ties to even; |x| <= 2^22. */
static inline int32_t ts_round(float x)
{
#if defined(TS_FLOAT_UNIT)
    return ts_vcvtr(x);
#else
    return (int32_t)ts_float_bits(x + 12582912.0f) - 0x4B400000;
#endif
}

/* x to the nearest integer, ties to even, and that within +-limit <= 2^30; 0 for what is not a
 * number. */
static inline int32_t ts_round_within(float x, int32_t limit)
{
#if defined(TS_FLOAT_UNIT)
    const int32_t rounded = ts_vcvtr(x);
    return rounded < -limit ? -limit : (rounded > limit ? limit : rounded);
#else
    const float magnitude = ts_bits_float(ts_float_bits(x) & 0x7FFFFFFFu);
    int32_t rounded = limit;
    if (magnitude < 8388608.0f) { /* above, every float is an integer */
        rounded = (int32_t)ts_float_bits(magnitude + 8388608.0f) - 0x4B000000;
        rounded = rounded > limit ? limit : rounded;
    } else if (magnitude < (float)limit) {
        rounded = (int32_t)magnitude;
    } else if (magnitude != magnitude) {
        rounded = 0;
    }
    return x < 0.0f ? -rounded : rounded;
#endif
}

/* The same, within a signed integer of 17 bits. */
static inline int32_t ts_round_s17(float x)
{
#if defined(TS_FLOAT_UNIT)
    return TS_SATURATE(ts_vcvtr(x), 17);
#else
    return TS_SATURATE(ts_round_within(x, 65536), 17);
#endif
}

/* The largest integer <= x, within +-limit <= 2^22; 0 for what is not a number. */
static inline int32_t ts_floor_within(float x, int32_t limit)
{
    const float edge = (float)limit;
    if (!(x < edge)) {
        return x >= edge ? limit : 0;
    }
    if (x <= -edge) {
        return -limit;
    }
    const int32_t whole = (int32_t)x; /* towards zero */
    return whole - ((float)whole > x ? 1 : 0);
}

/* e^x of x <= 0 within 4 ulp; below -87 as of -87. */
static inline float ts_exp(float x)
{
    const float bounded = x > -87.0f ? x : -87.0f;
    const float k = (bounded * 1.4426950408889634f + 12582912.0f) - 12582912.0f;
    const float r = (bounded - k * 0.693359375f) - k * -2.12194440e-4f;
    float p = (float)(1.0 / 720.0);
    p = p * r + (float)(1.0 / 120.0);
    p = p * r + (float)(1.0 / 24.0);
    p = p * r + (float)(1.0 / 6.0);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * ts_power_of_two((int32_t)k);
}

/* Natural logarithm of x >= 1 within 2 ulp. */
static inline float ts_log(float x)
{
    const uint32_t bits = ts_float_bits(x);
    int32_t k = (int32_t)(bits >> 23) - 127;
    float f = ts_bits_float((bits & 0x7FFFFFu) | 0x3F800000u);
    if (f > 1.4142135623730951f) {
        f = f * 0.5f;
        ++k;
    }
    const float s = (f - 1.0f) / (f + 1.0f);
    const float z = s * s;
    float p = (float)(1.0 / 9.0);
    p = p * z + (float)(1.0 / 7.0);
    p = p * z + (float)(1.0 / 5.0);
    p = p * z + (float)(1.0 / 3.0);
    const float twice = s + s;
    return (float)k * 0.6931471805599453f + (twice + twice * (z * p));
}

#endif
