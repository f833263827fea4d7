/* A restart, as of a reset: the next session finds the firmware as it was compiled. */
#include "ts_serial.h"

#if defined(__riscv)
_Noreturn void ts_start(void);

_Noreturn void ts_restart(void)
{
    ts_start(); /* sets up all that the firmware uses; a core in machine mode needs no more */
}
#else
_Noreturn void ts_restart(void)
{
    __asm__ volatile("dsb" ::: "memory");
    /* AIRCR: SYSRESETREQ with the key (Armv7-M ARM B3.2.6; Armv6-M ARM B3.2.6). */
    *(volatile uint32_t *)0xe000ed0cu = 0x05fa0004u;
    for (;;) {
    }
}
#endif
