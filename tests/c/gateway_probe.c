/* A non-secure program that does what an attacker would: the steps of probe.bin, one by one. Each
 * is five words; each answers with a word in result.bin. It ends after the last, or by a fault. */
#include "harness.h"
#include "tinsmith/ts_gateway.h"

enum { READ = 0, WRITE = 1, JUMP = 2, CALL = 3, DUMP = 4, PUSH = 5, INTERRUPT = 6 };
enum { PATTERN = 0xA5 };

typedef struct {
    uint32_t action;
    uint32_t a, b, c, d;
} step;

/* What the tests fill and look at, by name. */
_Alignas(4) volatile uint8_t probe_input[2][64], probe_output[64], probe_spare[64];
_Alignas(4) ts_gateway_request probe_request;
volatile uint32_t probe_call, probe_address;
void probe_loop(void);
void ts_counter_wrapped(void);

#define SYSTICK ((volatile uint32_t *)0xE000E010u) /* control, reload, current */

static ts_gateway_request from_interrupt;
volatile uint32_t probe_counts[4]; /* main: answered, not; the interrupt: answered, not */

/* Of SysTick: a call at any moment, most from within another. The period changes each time. */
void ts_counter_wrapped(void)
{
    static uint32_t random = 1; /* xorshift: a short cycle could keep missing the same moments */
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    SYSTICK[1] = 60 + random % 61;
    ++probe_counts[ts_gateway(0, &from_interrupt) == TS_OK ? 2 : 3];
}

/* Calls while interrupts do too. */
static uint32_t interrupted(uint32_t calls)
{
    from_interrupt = probe_request;
    from_interrupt.output = (void *)(uintptr_t)probe_spare;
    SYSTICK[0] = 4; /* the processor's clock, before it is enabled */
    SYSTICK[1] = 60;
    SYSTICK[2] = 0;
    SYSTICK[0] = 7;
    for (uint32_t i = 0; i < calls; ++i) {
        ++probe_counts[ts_gateway(0, &probe_request) == TS_OK ? 0 : 1];
    }
    SYSTICK[0] = 4;
    return calls;
}

static uint32_t read_word(uint32_t address)
{
    return *(const volatile uint32_t *)(uintptr_t)address;
}

static void jump(uint32_t address)
{
    __asm__ volatile("blx %0" ::"r"(address | 1u) : "lr", "r0", "r1", "r2", "r3", "r12", "memory");
}

/* Calls for ever, with nothing in registers that a disturbed gateway could spoil. */
__attribute__((naked, noinline)) void probe_loop(void)
{
    __asm__ volatile("1:\tldr r0, =probe_call\n\t"
                     "ldr r0, [r0]\n\t"
                     "ldr r1, =probe_address\n\t"
                     "ldr r1, [r1]\n\t"
                     "bl ts_gateway_call\n"
                     ".global probe_returned\n"
                     "probe_returned:\n\t"
                     "b 1b\n\t"
                     ".ltorg");
}

/* a: the call. b: the request's address; 0: probe_request as it is. */
static uint32_t call(const step *s)
{
    const uint32_t address = s->b != 0 ? s->b : (uint32_t)(uintptr_t)&probe_request;
    return ts_gateway(s->a, (const ts_gateway_request *)(uintptr_t)address);
}

/* Fills `words` of the stack, below its limit if there are enough. */
__attribute__((naked, noinline)) static uint32_t push(uint32_t words __attribute__((unused)))
{
    __asm__ volatile("mov r1, r0\n\t"
                     "mov r2, sp\n"
                     "1:\tpush {r0}\n\t"
                     "subs r1, #1\n\t"
                     "bne 1b\n\t"
                     "mov sp, r2\n\t"
                     "bx lr");
}

static uint32_t carry_out(const step *s, int results)
{
    switch (s->action) {
    case READ:
        return read_word(s->a);
    case WRITE:
        *(volatile uint32_t *)(uintptr_t)s->a = s->b;
        return read_word(s->a);
    case JUMP:
        jump(s->a);
        return 1;
    case CALL:
        return call(s);
    case INTERRUPT:
        return interrupted(s->a);
    case PUSH:
        return push(s->a);
    default: /* DUMP: also bytes */
        (void)ts_write(results, (const void *)(uintptr_t)s->a, s->b);
        return s->b;
    }
}

int main(void)
{
    step s;
    const int steps = ts_open_to_read("probe.bin");
    for (uint32_t i = 0; i < sizeof probe_output; ++i) {
        probe_input[0][i] = probe_input[1][i] = 0;
        probe_output[i] = probe_spare[i] = PATTERN;
    }
    if (steps < 0) {
        probe_loop();
    }
    const int results = ts_open_to_write("result.bin");
    while (ts_read(steps, &s, sizeof s) == sizeof s) {
        const uint32_t word = carry_out(&s, results);
        (void)ts_write(results, &word, sizeof word);
    }
    ts_exit(TS_EXIT_OK);
}
