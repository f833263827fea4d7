/* Numbers in stored data: little-endian, at any address. */
#ifndef TS_BYTES_H
#define TS_BYTES_H

#include <stdint.h>

static inline void ts_put_u32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; ++i) {
        to[i] = (uint8_t)(v >> (8 * i));
    }
}

static inline uint32_t ts_get_u32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
           (uint32_t)from[3] << 24;
}

#endif
