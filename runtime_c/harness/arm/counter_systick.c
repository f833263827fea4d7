/* Counts with SysTick, which under QEMU's -icount advances with executed instructions. */
#include "harness.h"

typedef struct {
    volatile uint32_t control;
    volatile uint32_t reload;
    volatile uint32_t current;
} systick_registers;

#define SYSTICK ((systick_registers *)0xe000e010u)

enum { ENABLE = 1, INTERRUPT = 2, PROCESSOR_CLOCK = 4, PERIOD = 0x1000000 };

static volatile uint32_t wraps;
void ts_counter_wrapped(void);

void ts_counter_wrapped(void)
{
    ++wraps;
}

void ts_counter_start(void)
{
    SYSTICK->control = PROCESSOR_CLOCK; /* QEMU 7.2 miscounts if clock and enable change at once */
    SYSTICK->reload = PERIOD - 1;
    SYSTICK->current = 0;
    wraps = 0;
    SYSTICK->control = ENABLE | INTERRUPT | PROCESSOR_CLOCK;
}

uint64_t ts_counter_stop(void)
{
    SYSTICK->control = PROCESSOR_CLOCK;
    __asm__ volatile("dsb\n\tisb" ::: "memory"); /* a pending wrap is taken before it is read */
    const uint32_t current = SYSTICK->current;
    return (uint64_t)wraps * PERIOD + ((PERIOD - current) & (PERIOD - 1));
}
