/* Exact float32 steps of training: the bit-exact twin of the float arithmetic in ops/.
 *
 * Every operation is a single one of IEEE 754, rounded to nearest even, in the order written: build
 * without contraction into fused multiply-adds (-ffp-contract=off) and without -ffast-math. */
#ifndef TS_FLOAT_H
#define TS_FLOAT_H

#include <stdint.h>
#include <string.h>

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

/* The smallest e >= -126 with |x| <= 127 * 2^e for the x of largest magnitude, given by its bits
 * without the sign; -126 when it is not finite. */
static inline int32_t ts_shared_exponent(uint32_t magnitude)
{
    const int32_t e = (int32_t)((magnitude + 0x1FFFFu) >> 23) - 133;
    return magnitude >= 0x7F800000u || e < -126 ? -126 : e;
}

/* x to the nearest integer, ties to even; |x| <= 2^22. */
static inline int32_t ts_round(float x)
{
    return (int32_t)ts_float_bits(x + 12582912.0f) - 0x4B400000;
}

/* x within +-limit; 0 for what is not a number. */
static inline float ts_limit(float x, float limit)
{
    return x >= limit ? limit : (x <= -limit ? -limit : (x == x ? x : 0.0f));
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
