/* Fixed-point rescaling of int32 accumulators: the bit-exact twin of quant/arithmetic.py.
 *
 * A real factor is multiplier * 2^(shift - 31), multiplier in [2^30, 2^31), shift in [-31, 30];
 * multiplier 0 (with shift 0) stands for a factor that takes every accumulator to 0.
 */
#ifndef TS_REQUANTIZE_H
#define TS_REQUANTIZE_H

#include <stdint.h>

_Static_assert((int64_t)-3 >> 1 == -2, "tinsmith needs an arithmetic right shift");

static inline int32_t ts_clamp(int32_t v, int32_t low, int32_t high)
{
    return v < low ? low : (v > high ? high : v);
}

/* v to the range of a signed integer of `bits`, a constant; one instruction where the processor has it.
 * (__ssat of arm_acle.h warns of a sign conversion, and gcc does not find the instruction for
 * ts_clamp.) */
#if defined(__ARM_FEATURE_SAT) && !defined(__clang__)
#define TS_SATURATE(v, bits) ((int32_t)__builtin_arm_ssat((v), (bits)))
#else
#define TS_SATURATE(v, bits) ts_clamp((v), -(1 << ((bits) - 1)), (1 << ((bits) - 1)) - 1)
#endif

static inline int8_t ts_saturate_s8(int32_t v)
{
    return (int8_t)TS_SATURATE(v, 8);
}

/* The upper word of acc * multiplier, 0 <= multiplier. Armv6-M multiplies to 32 bits only, and libgcc
 * knows nothing but 64 by 64 bits. */
static inline int32_t ts_high_product(int32_t acc, int32_t multiplier)
{
#if defined(__ARM_ARCH_6M__)
    const int32_t high = acc >> 16, times_high = multiplier >> 16;
    const uint32_t low = (uint32_t)acc & 0xFFFFu, times_low = (uint32_t)multiplier & 0xFFFFu;
    /* Neither these nor their sums leave 32 bits. */
    const int32_t middle = high * (int32_t)times_low + (int32_t)((low * times_low) >> 16);
    const uint32_t other = low * (uint32_t)times_high + ((uint32_t)middle & 0xFFFFu);
    return high * times_high + (middle >> 16) + (int32_t)(other >> 16);
#else
    return (int32_t)(((int64_t)acc * multiplier) >> 32);
#endif
}

/* (acc * multiplier + 2^(30 - shift)) >> (31 - shift): one rounding, half up; not saturated.
 * The result must fit int32: it does when |acc| * 2^shift < 2^31. */
static inline int32_t ts_requantize(int32_t acc, int32_t multiplier, int32_t shift)
{
    const int32_t n = 31 - shift;
    return (int32_t)(((int64_t)acc * multiplier + ((int64_t)1 << (n - 1))) >> n);
}

/* Requantize, add the zero point, clamp to [q_min, q_max]. Any int32 accumulator and any shift
 * are safe: the sum is clamped at 64 bits. */
static inline int8_t ts_requantize_s8(int32_t acc, int32_t multiplier, int32_t shift,
                                      int32_t zero_point, int32_t q_min, int32_t q_max)
{
    const int32_t n = 31 - shift;
    const int64_t v = (((int64_t)acc * multiplier + ((int64_t)1 << (n - 1))) >> n) + zero_point;
    return (int8_t)(v < q_min ? q_min : (v > q_max ? q_max : (int32_t)v));
}

#endif
