/* A debug image on an emulator: says by semihosting why it gave up, and takes its entropy there.
 * Arm "Semihosting for AArch32 and AArch64" 2.0. Part of debug images only. */
#include "ts_secure.h"

enum {
    SYS_OPEN = 0x01,
    SYS_CLOSE = 0x02,
    SYS_WRITE0 = 0x04,
    SYS_READ = 0x06,
    SYS_EXIT_EXTENDED = 0x20,
    MODE_READ_BINARY = 1,
    STOPPED_APPLICATION_EXIT = 0x20026,
    EXIT_GAVE_UP = 15, /* runner/protocol.py */
    EXIT_WRONG_IMAGE = 16
};

#define SFSR 0xE000EDE4u
#define CFSR 0xE000ED28u
#define HFSR 0xE000ED2Cu

static uint32_t semihost(uint32_t operation, const void *parameters)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = parameters;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void print_word(const char *name, uint32_t word)
{
    char digits[12] = " 0x";
    for (uint32_t i = 0; i < 8; ++i) {
        digits[3 + i] = "0123456789abcdef"[(word >> (28u - 4u * i)) & 15u];
    }
    digits[11] = 0;
    (void)semihost(SYS_WRITE0, name);
    (void)semihost(SYS_WRITE0, digits);
}

_Noreturn void ts_debug_end(uint32_t why)
{
    const uint32_t status = why == TS_WRONG_IMAGE ? EXIT_WRONG_IMAGE : EXIT_GAVE_UP;
    const uint32_t parameters[2] = {STOPPED_APPLICATION_EXIT, status};
    print_word("secure world: why", why);
    print_word(" SFSR", ts_read_word(SFSR));
    print_word(" CFSR", ts_read_word(CFSR));
    print_word(" HFSR", ts_read_word(HFSR));
    (void)semihost(SYS_WRITE0, "\n");
    for (;;) {
        (void)semihost(SYS_EXIT_EXTENDED, parameters);
    }
}

int ts_entropy(void *data, uint32_t bytes)
{
    static const char path[] = "/dev/urandom";
    const uint32_t open[3] = {(uint32_t)(uintptr_t)path, MODE_READ_BINARY, sizeof path - 1};
    const uint32_t file = semihost(SYS_OPEN, open);
    if ((int32_t)file < 0) {
        return 0;
    }
    const uint32_t read[3] = {file, (uint32_t)(uintptr_t)data, bytes};
    const uint32_t missing = semihost(SYS_READ, read);
    (void)semihost(SYS_CLOSE, &file);
    return missing == 0;
}

