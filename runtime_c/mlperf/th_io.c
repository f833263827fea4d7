/* The UART and formatted text of the MLPerf Tiny firmware, without a C library's printf. */
#include <stdarg.h>

#include "harness.h"
#include "th_api.h"
#include "ts_serial.h"

enum { DIGITS = 24, DECIMALS = 6 };

typedef struct {
    uint32_t width;
    uint32_t decimals;
    char fill;
} layout;

void th_serialport_initialize(void)
{
    ts_serial_open();
}

char th_getchar(void)
{
    int byte;
    do {
        byte = ts_serial_read();
    } while (byte < 0);
    return (char)byte;
}

static void put(char c)
{
    ts_serial_write((uint8_t)c);
}

static void put_number(uint64_t value, uint32_t base, int negative, const layout *how)
{
    char text[DIGITS];
    uint32_t count = 0;
    do {
        text[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    const uint32_t used = count + (negative ? 1u : 0u);
    if (negative && how->fill == '0') {
        put('-');
    }
    for (uint32_t i = used; i < how->width; ++i) {
        put(how->fill);
    }
    if (negative && how->fill != '0') {
        put('-');
    }
    while (count > 0) {
        put(text[--count]);
    }
}

/* Fixed point, half away from zero; what is too large for 64 bits is no result of a model. */
static void put_real(double value, const layout *how)
{
    const int negative = value < 0;
    double magnitude = negative ? -value : value;
    uint64_t unit = 1;
    for (uint32_t i = 0; i < how->decimals; ++i) {
        unit *= 10;
    }
    if (!(magnitude < 1e12)) {
        th_printf(magnitude >= 1e12 ? "inf" : "nan");
        return;
    }
    const uint64_t scaled = (uint64_t)(magnitude * (double)unit + 0.5);
    const layout plain = {0, 0, '0'};
    const layout rest = {how->decimals, 0, '0'};
    put_number(scaled / unit, 10, negative && scaled != 0, &plain);
    if (how->decimals > 0) {
        put('.');
        put_number(scaled % unit, 10, 0, &rest);
    }
}

static uint32_t take_number(const char **at)
{
    uint32_t value = 0;
    while (**at >= '0' && **at <= '9') {
        value = value * 10 + (uint32_t)(*(*at)++ - '0');
    }
    return value;
}

void th_printf(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    for (const char *at = format; *at != '\0'; ++at) {
        if (*at != '%' || at[1] == '\0') {
            put(*at);
            continue;
        }
        ++at;
        layout how = {0, DECIMALS, *at == '0' ? '0' : ' '};
        how.width = take_number(&at);
        if (*at == '.') {
            ++at;
            how.decimals = take_number(&at);
            how.decimals = how.decimals > DECIMALS ? DECIMALS : how.decimals;
        }
        while (*at == 'l' || *at == 'z') { /* on these boards as long as an int */
            ++at;
        }
        if (*at == 'd' || *at == 'i') {
            const int64_t value = va_arg(values, int);
            put_number((uint64_t)(value < 0 ? -value : value), 10, value < 0, &how);
        } else if (*at == 'u') {
            put_number(va_arg(values, unsigned), 10, 0, &how);
        } else if (*at == 'x' || *at == 'X') {
            put_number(va_arg(values, unsigned), 16, 0, &how);
        } else if (*at == 'f') {
            put_real(va_arg(values, double), &how);
        } else if (*at == 'c') {
            put((char)va_arg(values, int));
        } else if (*at == 's') {
            for (const char *c = va_arg(values, const char *); *c != '\0'; ++c) {
                put(*c);
            }
        } else {
            put(*at);
        }
    }
    va_end(values);
}

/* A fault ends here, and so would main. */
_Noreturn void ts_exit(int status)
{
    th_printf("e-[The firmware stopped with status %d]\r\n", status);
    ts_restart();
}
