/* RISC-V start in machine mode: memory initialised, main. The entry is the start of the image. */
#include "harness.h"

extern int main(void);
extern uint32_t ts_data_load[], ts_data_start[], ts_data_end[], ts_bss_start[], ts_bss_end[];
void ts_start(void);

__attribute__((aligned(4), used)) static void trap(void)
{
    ts_exit(TS_EXIT_FAULT);
}

__attribute__((noreturn, used)) static void initialise(void)
{
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

__attribute__((naked, noreturn, section(".vectors"), used)) void ts_start(void)
{
    __asm__ volatile(".option push\n"
                     ".option arch, +zicsr\n"
                     "la sp, ts_stack_top\n"
                     "la t0, %0\n"
                     "csrw mtvec, t0\n"
                     ".option pop\n"
                     "j %1\n"
                     :
                     : "i"(trap), "i"(initialise));
}
