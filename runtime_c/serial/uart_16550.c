/* A 16550 with byte registers, as QEMU's RISC-V virt machine has it. */
#include "ts_board.h"
#include "ts_serial.h"

#define UART ((volatile uint8_t *)TS_UART_ADDRESS)

enum { DATA = 0, INTERRUPTS = 1, FIFO = 2, LINE = 3, STATUS = 5 };
enum { EIGHT_BITS = 3, DIVIDER_ACCESS = 0x80, FIFO_ON = 1, RECEIVED = 1, ROOM = 0x20 };

void ts_serial_open(void)
{
    const uint32_t divider = (TS_UART_CLOCK_HZ + 8u * TS_UART_BAUD) / (16u * TS_UART_BAUD);
    UART[INTERRUPTS] = 0;
    UART[LINE] = DIVIDER_ACCESS;
    UART[DATA] = (uint8_t)divider;
    UART[INTERRUPTS] = (uint8_t)(divider >> 8);
    UART[LINE] = EIGHT_BITS;
    UART[FIFO] = FIFO_ON;
}

int ts_serial_read(void)
{
    return (UART[STATUS] & RECEIVED) != 0 ? (int)UART[DATA] : -1;
}

void ts_serial_write(uint8_t byte)
{
    while ((UART[STATUS] & ROOM) == 0) {
    }
    UART[DATA] = byte;
}
