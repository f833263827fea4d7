/* Measures the stack by painting it. The linker script gives its limits. */
#include "harness.h"

extern uint32_t ts_stack_limit[];

#define PAINT 0xa5a5a5a5u
#define MARGIN_WORDS 8

static uint32_t *base;

static uint32_t *stack_pointer(void)
{
    uint32_t *pointer;
#if defined(__riscv)
    __asm__ volatile("mv %0, sp" : "=r"(pointer));
#else
    __asm__ volatile("mov %0, sp" : "=r"(pointer));
#endif
    return pointer;
}

/* Not inlined and free of calls: below the stack pointer there is at most this function's own small
 * frame, which the margin spares. */
__attribute__((noinline)) void ts_stack_paint(void)
{
    base = stack_pointer();
    for (uint32_t *word = ts_stack_limit; word < base - MARGIN_WORDS; ++word) {
        *(volatile uint32_t *)word = PAINT;
    }
}

__attribute__((noinline)) uint32_t ts_stack_used(void)
{
    const uint32_t *const end = base - MARGIN_WORDS;
    const uint32_t *word = ts_stack_limit;
    while (word < end && *word == PAINT) {
        ++word;
    }
    return word == end ? 0 : (uint32_t)((uintptr_t)base - (uintptr_t)word);
}
