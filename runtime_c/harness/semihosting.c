/* Files and exit by semihosting: the emulator or debugger acts for the device.
 * Arm "Semihosting for AArch32 and AArch64" 2.0; RISC-V semihosting 0.4 has the same operations. */
#include "harness.h"

enum {
    SYS_OPEN = 0x01,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_SEEK = 0x0A,
    SYS_EXIT_EXTENDED = 0x20,
    MODE_READ_BINARY = 1,
    MODE_UPDATE_BINARY = 3,
    MODE_WRITE_BINARY = 5,
    STOPPED_APPLICATION_EXIT = 0x20026
};

#if defined(__riscv)
/* The three instructions must be uncompressed and on one page: they start an aligned function. */
__asm__(".section .text.ts_semihost, \"ax\"\n"
        ".balign 16\n"
        ".option push\n"
        ".option norvc\n"
        "ts_semihost:\n"
        "slli zero, zero, 0x1f\n"
        "ebreak\n"
        "srai zero, zero, 7\n"
        "ret\n"
        ".option pop\n"
        ".type ts_semihost, @function\n"
        ".size ts_semihost, . - ts_semihost\n"
        ".text\n");
intptr_t ts_semihost(uintptr_t operation, const uintptr_t *parameters);
#define semihost ts_semihost
#else
static intptr_t semihost(uintptr_t operation, const uintptr_t *parameters)
{
    register uintptr_t r0 __asm__("r0") = operation;
    register const uintptr_t *r1 __asm__("r1") = parameters;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (intptr_t)r0;
}
#endif

static int open_file(const char *path, uintptr_t mode)
{
    uintptr_t length = 0;
    for (const volatile char *c = path; *c != '\0'; ++c) { /* volatile: no call of strlen */
        ++length;
    }
    const uintptr_t parameters[3] = {(uintptr_t)path, mode, length};
    return (int)semihost(SYS_OPEN, parameters);
}

int ts_open_to_read(const char *path)
{
    return open_file(path, MODE_READ_BINARY);
}

int ts_open_to_write(const char *path)
{
    return open_file(path, MODE_WRITE_BINARY);
}

int ts_open_to_update(const char *path)
{
    return open_file(path, MODE_UPDATE_BINARY);
}

int ts_seek(int file, uint32_t offset)
{
    const uintptr_t parameters[2] = {(uintptr_t)file, offset};
    return semihost(SYS_SEEK, parameters) == 0;
}

uint32_t ts_read(int file, void *data, uint32_t bytes)
{
    const uintptr_t parameters[3] = {(uintptr_t)file, (uintptr_t)data, bytes};
    const uintptr_t missing = (uintptr_t)semihost(SYS_READ, parameters);
    return missing > bytes ? 0 : (uint32_t)(bytes - missing);
}

int ts_write(int file, const void *data, uint32_t bytes)
{
    const uintptr_t parameters[3] = {(uintptr_t)file, (uintptr_t)data, bytes};
    return semihost(SYS_WRITE, parameters) == 0;
}

_Noreturn void ts_exit(int status)
{
    const uintptr_t parameters[2] = {STOPPED_APPLICATION_EXIT, (uintptr_t)status};
    for (;;) {
        (void)semihost(SYS_EXIT_EXTENDED, parameters);
    }
}
