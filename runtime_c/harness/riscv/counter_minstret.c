/* Counts retired instructions, exactly. */
#include "harness.h"

static uint64_t started;

static uint64_t retired(void)
{
    uint32_t high, low, again;
    do { /* the halves are read apart: repeat if the high one moved */
        __asm__ volatile(".option push\n"
                         ".option arch, +zicsr\n"
                         "csrr %0, minstreth\n"
                         "csrr %1, minstret\n"
                         "csrr %2, minstreth\n"
                         ".option pop\n"
                         : "=r"(high), "=r"(low), "=r"(again));
    } while (high != again);
    return (uint64_t)high << 32 | low;
}

void ts_counter_start(void)
{
    started = retired();
}

uint64_t ts_counter_stop(void)
{
    return retired() - started;
}
