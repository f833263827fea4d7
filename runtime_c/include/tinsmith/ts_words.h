/* Four bytes at any address. */
#ifndef TS_WORDS_H
#define TS_WORDS_H

#include <stdint.h>
#include <string.h>

static inline uint32_t ts_load_u32(const int8_t *p)
{
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

static inline void ts_store_u32(int8_t *p, uint32_t word)
{
    memcpy(p, &word, sizeof word);
}

#endif
