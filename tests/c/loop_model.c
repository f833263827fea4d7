#include "loop_model.h"

/* Exactly 2 instructions a round. */
static void count_down(uint32_t rounds)
{
#if defined(__riscv)
    __asm__ volatile("1:\taddi %0, %0, -1\n\tbnez %0, 1b" : "+r"(rounds));
#elif defined(__arm__)
    __asm__ volatile(".syntax unified\n1:\tsubs %0, #1\n\tbne 1b" : "+l"(rounds) : : "cc");
#else
    (void)rounds;
#endif
}

/* Rounds that make the model misbehave instead. */
enum { CRASH = 0xdead, HANG = 0xdeaf, FAIL = 0xdeb0 };

ts_status loop_model_run(loop_model_context *ctx)
{
    const uint32_t rounds = ctx->words[0];
    if (rounds == CRASH) {
        *(volatile uint32_t *)(uintptr_t)0xe8000000u = 0; /* no memory there */
    }
    while (rounds == HANG) {
        __asm__ volatile("");
    }
    count_down(rounds);
    ctx->words[1] = rounds + 1;
    return rounds == FAIL ? TS_SELFTEST_FAILED : TS_OK;
}

ts_status loop_model_init(loop_model_context *ctx, void *arena, size_t bytes)
{
    ctx->words = arena;
    return bytes < LOOP_MODEL_ARENA_BYTES ? TS_ARENA_TOO_SMALL : TS_OK;
}

void *loop_model_input(const loop_model_context *ctx, int32_t index)
{
    return ctx->words + index;
}

const void *loop_model_output(const loop_model_context *ctx, int32_t index)
{
    return ctx->words + 1 + index;
}
