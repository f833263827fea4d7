/* Registers of a machine by their addresses. */
#ifndef TS_IO_H
#define TS_IO_H

#include <stdint.h>

static inline uint32_t ts_io_read(uint32_t address)
{
    return *(volatile uint32_t *)(uintptr_t)address;
}

static inline void ts_io_write(uint32_t address, uint32_t value)
{
    *(volatile uint32_t *)(uintptr_t)address = value;
}

/* What was written before has happened before anything that follows is even fetched. */
static inline void ts_io_barrier(void)
{
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}

#endif
