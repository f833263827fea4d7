/* Cortex-M start: FPU on, memory initialised, main. The vector table is the start of the image. */
#include "harness.h"

extern int main(void);
extern uint32_t ts_stack_top[], ts_data_load[], ts_data_start[], ts_data_end[];
extern uint32_t ts_bss_start[], ts_bss_end[];
void ts_reset(void);
void ts_boot(void);
void ts_counter_wrapped(void); /* the counter's interrupt */

static void fault(void)
{
    ts_exit(TS_EXIT_FAULT);
}

__attribute__((noreturn)) void ts_reset(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    /* CPACR: full access to CP10 and CP11, the FPU and MVE (Armv7-M ARM B3.2.20). */
    *(volatile uint32_t *)0xe000ed88u |= 0xfu << 20;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    /* volatile: no call of memset or memcpy, which would only cost flash */
    const uint32_t *load = ts_data_load;
    for (volatile uint32_t *word = ts_data_start; word < ts_data_end; ++word) {
        *word = *load++;
    }
    for (volatile uint32_t *word = ts_bss_start; word < ts_bss_end; ++word) {
        *word = 0;
    }
    (void)main();
    ts_exit(TS_EXIT_FAULT); /* main exits by itself */
}

/* Where a reset leads. A board that has something to set up first, setup.c, comes before this. */
__attribute__((weak, alias("ts_reset"), noreturn)) void ts_boot(void);

typedef void (*handler)(void);

/* Stack pointer, reset, NMI, faults…; SysTick is the sixteenth word. */
__attribute__((section(".vectors"), used)) static const struct {
    const uint32_t *stack_top;
    handler handlers[15];
} vectors = {
    ts_stack_top,
    {ts_boot, fault, fault, fault, fault, fault, fault, 0, 0, 0, fault, fault, 0, fault,
     ts_counter_wrapped},
};
