/* From reset into the non-secure world, and the way out when something is wrong. */
#include <arm_cmse.h>

#include "ts_secure.h"

extern uint32_t ts_stack_top[], ts_stack_limit[], ts_data_load[], ts_data_start[], ts_data_end[];
extern uint32_t ts_bss_start[], ts_bss_end[], ts_ram_start[], ts_ram_end[];
extern const struct ts_vectors ts_vectors;
_Noreturn void ts_reset(void);
void ts_secure_fault(void);

#define VTOR 0xE000ED08u
#define VTOR_NS 0xE002ED08u
#define SHCSR 0xE000ED24u
#define CPACR 0xE000ED88u
#define NSACR 0xE000ED8Cu
#define FPCCR 0xE000EF34u
#define NVIC_ITNS 0xE000E380u
#define SHCSR_ALL_FAULTS (0xFu << 16) /* MemManage, BusFault, UsageFault, SecureFault */
#define CPACR_FPU (0xFu << 20)
#define NSACR_FPU (0x3u << 10)
#define FPCCR_CLEAR_ON_RETURN (0x7u << 26) /* CLRONRET, CLRONRETS and TS */

typedef void __attribute__((cmse_nonsecure_call)) non_secure_function(void);

_Noreturn void ts_give_up(uint32_t why)
{
#ifdef TS_SECURE_DEBUG
    ts_debug_end(why);
#else
    (void)why;
    /* In registers alone: the stack goes too. AIRCR.SYSRESETREQ (Armv8-M ARM D1.2.2). */
    __asm__ volatile("cpsid i\n\tcpsid f\n"
                     "1:\tstr %[zero], [%[at]], #4\n\t"
                     "cmp %[at], %[end]\n\t"
                     "blo 1b\n\t"
                     "dsb\n\t"
                     "str %[reset], [%[aircr]]\n\t"
                     "dsb\n"
                     "2:\tb 2b"
                     :
                     : [at] "r"(ts_ram_start), [end] "r"(ts_ram_end), [zero] "r"(0),
                       [aircr] "r"(0xE000ED0Cu), [reset] "r"(0x05FA0004u)
                     : "memory");
    __builtin_unreachable();
#endif
}

/* Every fault that reaches the secure world, whoever caused it. The stack may be the reason. */
__attribute__((naked)) void ts_secure_fault(void)
{
    __asm__ volatile("movs r0, #0\n\t"
                     "msr msplim, r0\n\t"
                     "ldr r0, =ts_stack_top\n\t"
                     "mov sp, r0\n\t"
                     "mrs r0, ipsr\n\t"
                     "b ts_give_up\n\t"
                     ".ltorg");
}

static void initialise_memory(void)
{
    const uint32_t *load = ts_data_load;
    for (volatile uint32_t *word = ts_data_start; word < ts_data_end; ++word) {
        *word = *load++;
    }
    for (volatile uint32_t *word = ts_bss_start; word < ts_bss_end; ++word) {
        *word = 0;
    }
}

/* No interrupt is the secure world's: its graphs run in the caller's thread. */
static void hand_over_interrupts(void)
{
    for (uint32_t word = 0; word < 16; ++word) {
        ts_write(NVIC_ITNS + 4u * word, 0xFFFFFFFFu);
    }
}

/* apart: 0, or what the check of the image is short of: then this leads nowhere. */
static void enter_non_secure(uint32_t apart)
{
    const ts_zone *const zone = &ts_trust_zone;
    const uint32_t stack = ts_read_word(zone->flash.start);
    const uint32_t reset = ts_read_word(zone->flash.start + 4u) + apart;
    ts_write(VTOR_NS, zone->flash.start);
    __asm__ volatile("msr msplim_ns, %0\n\tmsr msp_ns, %1" ::"r"(zone->ram.start), "r"(stack));
    cmse_nsfptr_create((non_secure_function *)(uintptr_t)reset)();
}

/* A call that is left out must not lead on to what follows it in the image. */
static inline _Noreturn __attribute__((always_inline)) void refuse(void)
{
    register uint32_t why __asm__("r0") = TS_WRONG_IMAGE;
    __asm__ volatile("bl ts_give_up\n\tudf #255\n\tudf #255" ::"r"(why) : "lr", "memory");
    __builtin_unreachable();
}

_Noreturn void ts_reset(void)
{
    uint8_t digest[TS_DIGEST_BYTES] = {0};
    __asm__ volatile("msr msplim, %0" ::"r"(ts_stack_limit));
    ts_write(VTOR, (uint32_t)(uintptr_t)&ts_vectors);
    ts_write(SHCSR, ts_read_word(SHCSR) | SHCSR_ALL_FAULTS);
    ts_write(CPACR, ts_read_word(CPACR) | CPACR_FPU);
    ts_write(NSACR, ts_read_word(NSACR) | NSACR_FPU);
    __asm__ volatile("dsb\n\tisb" ::: "memory");
    ts_write(FPCCR, ts_read_word(FPCCR) | FPCCR_CLEAR_ON_RETURN);
    initialise_memory();
    ts_protect();
    volatile const uint32_t one = ts_image_by_difference(digest);
    if (one != TS_IMAGE_BY_DIFFERENCE) {
        refuse();
    }
    hand_over_interrupts();
    ts_lock();
    volatile const uint32_t other = ts_image_by_count(digest);
    if (other != TS_IMAGE_BY_COUNT * TS_DIGEST_BYTES) {
        refuse();
    }
    enter_non_secure(one + other -
                     (TS_IMAGE_BY_DIFFERENCE + TS_IMAGE_BY_COUNT * TS_DIGEST_BYTES));
    ts_give_up(TS_GLITCH);
}

typedef void (*handler)(void);

/* Stack pointer, reset, then every exception a core has of its own. */
__attribute__((section(".vectors"), used)) const struct ts_vectors {
    const uint32_t *stack_top;
    handler handlers[15];
} ts_vectors = {
    ts_stack_top,
    {ts_reset, ts_secure_fault, ts_secure_fault, ts_secure_fault, ts_secure_fault, ts_secure_fault,
     ts_secure_fault, ts_secure_fault, ts_secure_fault, ts_secure_fault, ts_secure_fault,
     ts_secure_fault, ts_secure_fault, ts_secure_fault, ts_secure_fault},
};
