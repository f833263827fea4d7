/* The board's side of the serial link as a process: its UART is stdin and stdout. Copies samples.bin
 * to outputs.bin, every byte ^ 0x5a, and puts a mark into flash.bin. */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "harness.h"
#include "ts_link.h"
#include "ts_serial.h"

const uint8_t ts_link_identity[TS_LINK_IDENTITY_BYTES] = "the echo of the test";

static char **arguments;

void ts_serial_open(void)
{
}

int ts_serial_read(void)
{
    uint8_t byte;
    struct pollfd port = {.fd = 0, .events = POLLIN};
    if (poll(&port, 1, 100) <= 0) {
        return -1;
    }
    if (read(0, &byte, 1) != 1) {
        _exit(0);
    }
    return byte;
}

void ts_serial_write(uint8_t byte)
{
    if (write(1, &byte, 1) != 1) {
        _exit(0);
    }
}

_Noreturn void ts_restart(void)
{
    execv(arguments[0], arguments);
    _exit(1);
}

int main(int argc, char **argv)
{
    uint8_t block[100];
    uint32_t count;
    arguments = argv;
    (void)argc;
    const int in = ts_open_to_read("samples.bin");
    const int out = ts_open_to_write("outputs.bin");
    if (in < 0 || out < 0 || ts_open_to_read("nothing.bin") >= 0) {
        ts_exit(TS_EXIT_NO_SAMPLES);
    }
    while ((count = ts_read(in, block, sizeof block)) > 0) {
        for (uint32_t i = 0; i < count; ++i) {
            block[i] ^= 0x5a;
        }
        (void)ts_write(out, block, count);
    }
    const int flash = ts_open_to_update("flash.bin");
    if (flash >= 0 && ts_seek(flash, 3)) {
        (void)ts_write(flash, "mark", 4);
    }
    ts_exit(TS_EXIT_OK);
}
