/* A USART or LPUART of the newer STM32, with ISR, RDR and TDR (RM0385, RM0432, RM0456). Its clock and
 * pins are set up at the start. */
#include "ts_board.h"
#include "ts_io.h"
#include "ts_serial.h"

enum { CONTROL_1 = 0x00, CONTROL_3 = 0x08, RATE = 0x0c, STATUS = 0x1c, RECEIVE = 0x24, SEND = 0x28 };
enum {
    ENABLE = 1 << 0,
    RX_ENABLE = 1 << 2,
    TX_ENABLE = 1 << 3,
    NO_OVERRUN = 1 << 12, /* a byte that nobody fetched gives way to the next; the link notices */
    RECEIVED = 1 << 5,
    ROOM = 1 << 7
};

#define REGISTER(offset) ((uint32_t)(TS_UART_ADDRESS + (offset)))

void ts_serial_open(void)
{
    const uint64_t clock = (uint64_t)TS_UART_RATE_SCALE * TS_UART_CLOCK_HZ;
    ts_io_write(REGISTER(CONTROL_1), 0); /* what follows may be written while it is off alone */
    ts_io_write(REGISTER(CONTROL_3), NO_OVERRUN);
    ts_io_write(REGISTER(RATE), (uint32_t)((clock + TS_UART_BAUD / 2u) / TS_UART_BAUD));
    ts_io_write(REGISTER(CONTROL_1), ENABLE | RX_ENABLE | TX_ENABLE);
}

int ts_serial_read(void)
{
    const uint32_t status = ts_io_read(REGISTER(STATUS));
    return (status & RECEIVED) != 0 ? (int)(ts_io_read(REGISTER(RECEIVE)) & 0xffu) : -1;
}

void ts_serial_write(uint8_t byte)
{
    while ((ts_io_read(REGISTER(STATUS)) & ROOM) == 0) {
    }
    ts_io_write(REGISTER(SEND), byte);
}
