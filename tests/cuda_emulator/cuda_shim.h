// Lets g++ compile the CUDA source that TVM emits: threads of a block are fibers that take turns at
// barriers (emulator.cpp), shared memory is static, tensor cores are loops of the first lane.
#pragma once

#include <math.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__
// In one section, so that a block finds none of what an earlier one left there.
#define __shared__ static __attribute__((section("emulated_shared")))
#define alignas(n) __attribute__((aligned(n)))

struct emulated_index {
    unsigned x, y, z;
};
extern emulated_index threadIdx, blockIdx;

struct __attribute__((aligned(8))) int2 { int x, y; };
struct __attribute__((aligned(16))) int4 { int x, y, z, w; };
struct __attribute__((aligned(16))) uint4 { unsigned x, y, z, w; };
struct __attribute__((aligned(16))) longlong2 { long long x, y; };
struct __attribute__((aligned(16))) longlong4 { long long x, y, z, w; };
struct __attribute__((aligned(8))) float2 { float x, y; };
struct __attribute__((aligned(16))) float4 { float x, y, z, w; };
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline longlong4 make_longlong4(long long x, long long y, long long z, long long w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

template <class T> static inline T min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T max(T a, T b) { return a < b ? b : a; }

/* Operations that are rounded once. g++ contracts nothing here: the machine has no fused product. */
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline int __float_as_int(float value)
{
    int bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline float __int_as_float(int bits)
{
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
/* Threads take turns only at barriers, so nothing comes between. */
static inline int atomicAdd(int *place, int value)
{
    const int old = *place;
    *place = (int)((unsigned)old + (unsigned)value);
    return old;
}
static inline int atomicMax(int *place, int value)
{
    const int old = *place;
    *place = max(old, value);
    return old;
}

void emulated_block_barrier();
void emulated_warp_barrier();
unsigned emulated_lane();
uint64_t *emulated_slots();  // one word per lane of this warp

static inline void __syncthreads() { emulated_block_barrier(); }
static inline void __syncwarp(unsigned = ~0u) { emulated_warp_barrier(); }
static inline unsigned __activemask() { return ~0u; }

template <class T> static inline T emulated_shuffle(T value, unsigned source)
{
    static_assert(sizeof(T) <= sizeof(uint64_t));
    uint64_t *slots = emulated_slots(), word = 0;
    std::memcpy(&word, &value, sizeof value);
    slots[emulated_lane()] = word;
    emulated_warp_barrier();
    word = slots[source < 32 ? source : emulated_lane()];
    emulated_warp_barrier();
    std::memcpy(&value, &word, sizeof value);
    return value;
}
template <class T> static inline T __shfl_sync(unsigned, T v, int lane, int = 32) { return emulated_shuffle(v, (unsigned)lane % 32); }
template <class T> static inline T __shfl_down_sync(unsigned, T v, unsigned by, int = 32) { return emulated_shuffle(v, emulated_lane() + by); }
template <class T> static inline T __shfl_xor_sync(unsigned, T v, int mask, int = 32) { return emulated_shuffle(v, emulated_lane() ^ (unsigned)mask); }

static inline int __dp4a(int a, int b, int c)
{
    unsigned sum = (unsigned)c;
    for (int i = 0; i < 4; ++i) {
        sum += (unsigned)((int)(int8_t)(a >> (8 * i)) * (int)(int8_t)(b >> (8 * i)));
    }
    return (int)sum;
}

namespace nvcuda::wmma {
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
    static_assert(M == 16 && N == 16 && K == 16);
    T x[16][16];  // the whole tile, in the first lane only
};

static inline void emulated_check(const void *p, unsigned ld, unsigned bytes)
{
    if ((uintptr_t)p % 32 != 0 || ld * bytes % 16 != 0) {
        std::fprintf(stderr, "a tile must be aligned to 32 bytes, its rows to 16\n");
        std::abort();
    }
}
template <class U, class T, class L, class V>
static inline void fill_fragment(fragment<U, 16, 16, 16, T, L> &f, V value)
{
    for (auto &row : f.x) {
        for (T &v : row) {
            v = (T)value;
        }
    }
}
template <class U, class T, class L>
static inline void load_matrix_sync(fragment<U, 16, 16, 16, T, L> &f, const T *p, unsigned ld)
{
    emulated_check(p, ld, sizeof(T));
    for (unsigned i = 0; emulated_lane() == 0 && i < 16; ++i) {
        for (unsigned j = 0; j < 16; ++j) {
            f.x[i][j] = std::is_same_v<L, col_major> ? p[j * ld + i] : p[i * ld + j];
        }
    }
}
template <class A, class B>
static inline void mma_sync(fragment<accumulator, 16, 16, 16, int> &d, const A &a, const B &b,
                            const fragment<accumulator, 16, 16, 16, int> &c)
{
    for (unsigned i = 0; emulated_lane() == 0 && i < 16; ++i) {
        for (unsigned j = 0; j < 16; ++j) {
            unsigned sum = (unsigned)c.x[i][j];
            for (unsigned k = 0; k < 16; ++k) {
                sum += (unsigned)((int)a.x[i][k] * (int)b.x[k][j]);
            }
            d.x[i][j] = (int)sum;
        }
    }
}
template <class T>
static inline void store_matrix_sync(T *p, const fragment<accumulator, 16, 16, 16, T> &f,
                                     unsigned ld, layout_t)
{
    emulated_check(p, ld, sizeof(T));
    for (unsigned i = 0; emulated_lane() == 0 && i < 16; ++i) {
        std::memcpy(p + i * ld, f.x[i], sizeof f.x[i]);
    }
}
}  // namespace nvcuda::wmma
