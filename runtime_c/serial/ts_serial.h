/* The serial port of a board, as the link and the MLPerf Tiny interface use it: three functions of a
 * UART driver. Nothing here uses interrupts. */
#ifndef TS_SERIAL_H
#define TS_SERIAL_H

#include <stdint.h>

/* Before the first of the others; 8 data bits, no parity, 1 stop bit. */
void ts_serial_open(void);

/* The next byte that came in, or -1 when there is none. */
int ts_serial_read(void);

/* Sends a byte, when there is room for it. */
void ts_serial_write(uint8_t byte);

/* Starts the firmware again, as a reset does; restart.c. */
_Noreturn void ts_restart(void);

#endif
