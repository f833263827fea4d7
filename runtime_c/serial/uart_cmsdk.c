/* Arm's CMSDK UART (DDI 0479), of the MPS2 and MPS3 images. */
#include "ts_board.h"
#include "ts_serial.h"

typedef struct {
    volatile uint32_t data;
    volatile uint32_t state;
    volatile uint32_t control;
    volatile uint32_t interrupt;
    volatile uint32_t divider;
} uart_registers;

#define UART ((uart_registers *)TS_UART_ADDRESS)

enum { TX_FULL = 1, RX_FULL = 2, TX_ENABLE = 1, RX_ENABLE = 2 };

void ts_serial_open(void)
{
    UART->divider = TS_UART_CLOCK_HZ / TS_UART_BAUD;
    UART->control = TX_ENABLE | RX_ENABLE;
}

int ts_serial_read(void)
{
    return (UART->state & RX_FULL) != 0 ? (int)(UART->data & 0xffu) : -1;
}

void ts_serial_write(uint8_t byte)
{
    while ((UART->state & TX_FULL) != 0) {
    }
    UART->data = byte;
}
