/* The UART of Nordic's nRF51 (nRF51 Series Reference Manual 3.0, section 29). */
#include "ts_board.h"
#include "ts_serial.h"

#define REGISTER(offset) (*(volatile uint32_t *)(TS_UART_ADDRESS + (offset)))

enum {
    START_RX = 0x000,
    START_TX = 0x008,
    RECEIVED = 0x108,
    SENT = 0x11c,
    ENABLE = 0x500,
    PIN_TX = 0x50c,
    PIN_RX = 0x514,
    RX = 0x518,
    TX = 0x51c,
    BAUD = 0x524,
    ENABLED = 4
};

static int sending;

void ts_serial_open(void)
{
    REGISTER(PIN_TX) = 24; /* to the interface chip of the micro:bit, which is its USB port */
    REGISTER(PIN_RX) = 25;
    /* The register is the rate in units of 16 MHz / 2^32, rounded to 4096 of them. */
    const uint64_t units = (((uint64_t)TS_UART_BAUD << 32) + TS_UART_CLOCK_HZ / 2) / TS_UART_CLOCK_HZ;
    REGISTER(BAUD) = ((uint32_t)units + 0x800u) & 0xfffff000u;
    REGISTER(ENABLE) = ENABLED;
    REGISTER(START_RX) = 1;
    REGISTER(START_TX) = 1;
}

int ts_serial_read(void)
{
    if (REGISTER(RECEIVED) == 0) {
        return -1;
    }
    REGISTER(RECEIVED) = 0;
    return (int)(REGISTER(RX) & 0xffu);
}

void ts_serial_write(uint8_t byte)
{
    while (sending && REGISTER(SENT) == 0) {
    }
    REGISTER(SENT) = 0;
    REGISTER(TX) = byte;
    sending = 1;
}
