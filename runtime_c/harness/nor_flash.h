/* A NOR flash for emulators and tests: programming only clears bits, an erase sets a whole sector
 * to 0xff, and power can be cut at any operation. Behind it is memory or a file. */
#ifndef TS_NOR_FLASH_H
#define TS_NOR_FLASH_H

#include <stdint.h>

#include "tinsmith/ts_store.h"

/* Where in an operation power goes. */
typedef enum { TS_CUT_BEFORE, TS_CUT_DURING, TS_CUT_AFTER } ts_cut;

/* How a unit reads whose program or erase was cut off: as what was left there; as what was meant or
 * as anything, another time differently; or not at all. Only a flash with `units` knows which ones
 * these are. */
typedef enum { TS_TORN_STABLE, TS_TORN_WEAK, TS_TORN_FAILS } ts_torn;

enum { TS_UNIT_ERASED, TS_UNIT_PROGRAMMED, TS_UNIT_TORN };

typedef struct ts_nor {
    ts_flash flash; /* the driver to hand out; set by ts_nor_init */
    uint32_t bytes;
    /* Backing store; `get` and `put` return 0 on success. */
    int (*get)(void *user, uint32_t address, uint8_t *data, uint32_t bytes);
    int (*put)(void *user, uint32_t address, const uint8_t *data, uint32_t bytes);
    void *user;
    uint8_t *units;      /* a state per program unit, or NULL; then misuse is refused, too */
    ts_torn torn;
    ts_cut cut;
    uint32_t cut_at;     /* the operation in which power goes, counted from 1; 0: never */
    uint32_t fail_at;    /* the operation that fails although power stays; 0: none */
    uint32_t lie_at;     /* the operation that does nothing and reports success; 0: none */
    int unreadable;      /* whether every read fails */
    uint32_t operations; /* program units and sectors erased so far */
    uint32_t random;     /* state of a generator; not 0 */
    int off;             /* power is gone: nothing works until it is set to 0 */
    int misused;         /* a unit was programmed twice, or an address is not aligned */
} ts_nor;

/* Fills in `flash`; the other fields are the caller's. */
void ts_nor_init(ts_nor *nor, uint32_t bytes, uint32_t sector_bytes, uint32_t program_bytes);

/* A backing store in memory: `user` is a uint8_t array. */
int ts_nor_memory_get(void *user, uint32_t address, uint8_t *data, uint32_t bytes);
int ts_nor_memory_put(void *user, uint32_t address, const uint8_t *data, uint32_t bytes);

#endif
