/* A restart: the next session finds the firmware as it was compiled. */
#include "ts_serial.h"

#if defined(__riscv)
_Noreturn void ts_start(void);

_Noreturn void ts_restart(void)
{
    ts_start(); /* sets up all that the firmware uses; a core in machine mode needs no more */
}
#else
_Noreturn void ts_reset(void);
extern uint32_t ts_stack_top[];

_Noreturn void ts_restart(void)
{
    uint32_t exception;
    __asm__ volatile("mrs %0, ipsr" : "=r"(exception));
    if (exception == 0) {
        __asm__ volatile("msr msp, %0\n\t"
                         "bx %1"
                         :
                         : "r"(ts_stack_top), "r"((uintptr_t)ts_reset | 1u)
                         : "memory");
    }
    /* Out of a handler only a reset leads. AIRCR: SYSRESETREQ with the key (Armv7-M ARM B3.2.6). */
    __asm__ volatile("dsb" ::: "memory");
    *(volatile uint32_t *)0xe000ed0cu = 0x05fa0004u;
    for (;;) {
    }
}
#endif
