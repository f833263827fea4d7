/* A non-secure program that asks the secure world about updates, for ever. */
#include "harness.h"
#include "tinsmith/ts_update.h"

/* What the tests fill and look at, by name. */
_Alignas(4) volatile uint8_t probe_data[64], probe_tag[64];
_Alignas(4) ts_update_request probe_request;
volatile uint32_t probe_address;
void probe_loop(void);
void ts_counter_wrapped(void);

void ts_counter_wrapped(void)
{
}

/* With nothing in registers that a disturbed secure world could spoil. */
__attribute__((naked, noinline)) void probe_loop(void)
{
    __asm__ volatile("1:\tldr r0, =probe_address\n\t"
                     "ldr r0, [r0]\n\t"
                     "bl ts_update\n"
                     ".global probe_returned\n"
                     "probe_returned:\n\t"
                     "b 1b\n\t"
                     ".ltorg");
}

int main(void)
{
    for (uint32_t i = 0; i < sizeof probe_data; ++i) {
        probe_data[i] = probe_tag[i] = 0;
    }
    probe_address = (uint32_t)(uintptr_t)&probe_request;
    probe_loop();
    return 0;
}
