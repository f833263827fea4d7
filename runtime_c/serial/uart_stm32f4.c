/* A USART of the STM32F4 (RM0090, section 30). Clock and pins are the board's own to set up. */
#include "ts_board.h"
#include "ts_serial.h"

typedef struct {
    volatile uint32_t status;
    volatile uint32_t data;
    volatile uint32_t baud;
    volatile uint32_t control;
} usart_registers;

#define USART ((usart_registers *)TS_UART_ADDRESS)

enum { RECEIVED = 1 << 5, ROOM = 1 << 7, ENABLE = 1 << 13, TX_ENABLE = 1 << 3, RX_ENABLE = 1 << 2 };

void ts_serial_open(void)
{
    USART->baud = (TS_UART_CLOCK_HZ + TS_UART_BAUD / 2u) / TS_UART_BAUD;
    USART->control = ENABLE | TX_ENABLE | RX_ENABLE;
}

int ts_serial_read(void)
{
    return (USART->status & RECEIVED) != 0 ? (int)(USART->data & 0xffu) : -1;
}

void ts_serial_write(uint8_t byte)
{
    while ((USART->status & ROOM) == 0) {
    }
    USART->data = byte;
}
