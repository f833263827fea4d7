#include "nor_flash.h"

#include <stddef.h>
#include <string.h>

static uint8_t random_byte(ts_nor *nor)
{
    nor->random ^= nor->random << 13;
    nor->random ^= nor->random >> 17;
    nor->random ^= nor->random << 5;
    return (uint8_t)(nor->random >> 24);
}

/* What becomes of the operation that begins now. */
typedef enum { DONE, FAILED, LIED, CUT_BEFORE, CUT_DURING, CUT_AFTER } fate;

static fate begin(ts_nor *nor)
{
    nor->operations += 1;
    if (nor->operations == nor->fail_at) {
        return FAILED;
    }
    if (nor->operations == nor->lie_at) {
        return LIED;
    }
    if (nor->operations != nor->cut_at) {
        return DONE;
    }
    nor->off = 1;
    return nor->cut == TS_CUT_BEFORE ? CUT_BEFORE
                                     : (nor->cut == TS_CUT_DURING ? CUT_DURING : CUT_AFTER);
}

static void set_units(ts_nor *nor, uint32_t address, uint32_t bytes, uint8_t state)
{
    if (nor->units != NULL) {
        const uint32_t unit = nor->flash.program_bytes;
        memset(nor->units + address / unit, state, bytes / unit);
    }
}

static int is_weak(const ts_nor *nor)
{
    return nor->units != NULL && nor->torn == TS_TORN_WEAK;
}

/* Cut off, it leaves some of the unit's bits cleared, or weakly all of them. */
static int program_unit(ts_nor *nor, uint32_t address, const uint8_t *data)
{
    const uint32_t unit = nor->flash.program_bytes;
    const fate now = begin(nor);
    if (now == CUT_BEFORE || now == FAILED || now == LIED) {
        return now == LIED ? 0 : -1;
    }
    uint8_t bytes[TS_FLASH_MAX_PROGRAM_BYTES];
    if (nor->get(nor->user, address, bytes, unit) != 0) {
        return -1;
    }
    const int partly = now == CUT_DURING && !is_weak(nor);
    for (uint32_t i = 0; i < unit; ++i) {
        bytes[i] &= (uint8_t)(data[i] | (partly ? random_byte(nor) : 0));
    }
    if (nor->units != NULL && nor->units[address / unit] != TS_UNIT_ERASED) {
        nor->misused = 1;
    }
    set_units(nor, address, unit, now == CUT_DURING ? TS_UNIT_TORN : TS_UNIT_PROGRAMMED);
    return nor->put(nor->user, address, bytes, unit) == 0 && now == DONE ? 0 : -1;
}

static int out_of_range(ts_nor *nor, uint32_t address, uint32_t bytes)
{
    return nor->off || address > nor->bytes || bytes > nor->bytes - address;
}

static int nor_program(void *user, uint32_t address, const void *data, uint32_t bytes)
{
    ts_nor *nor = (ts_nor *)user;
    const uint32_t unit = nor->flash.program_bytes;
    if (address % unit != 0 || bytes % unit != 0 || out_of_range(nor, address, bytes)) {
        nor->misused |= !nor->off;
        return -1;
    }
    for (uint32_t at = 0; at < bytes; at += unit) {
        if (program_unit(nor, address + at, (const uint8_t *)data + at) != 0) {
            return -1;
        }
    }
    return 0;
}

/* Cut off, it leaves bits that are anything; early on what was there; weakly erased ones. */
static int nor_erase(void *user, uint32_t address)
{
    ts_nor *nor = (ts_nor *)user;
    const uint32_t sector = nor->flash.sector_bytes;
    if (address % sector != 0 || out_of_range(nor, address, sector)) {
        nor->misused |= !nor->off;
        return -1;
    }
    const fate now = begin(nor);
    if (now == CUT_BEFORE || now == FAILED || now == LIED) {
        return now == LIED ? 0 : -1;
    }
    set_units(nor, address, sector, now == CUT_DURING ? TS_UNIT_TORN : TS_UNIT_ERASED);
    uint8_t piece[64];
    const int early = now == CUT_DURING && random_byte(nor) < 64;
    for (uint32_t at = 0; at < sector && !early;) {
        const uint32_t bytes = sector - at < sizeof piece ? sector - at : (uint32_t)sizeof piece;
        for (uint32_t i = 0; i < bytes; ++i) {
            piece[i] = now == CUT_DURING && !is_weak(nor) ? random_byte(nor) : 0xff;
        }
        if (nor->put(nor->user, address + at, piece, bytes) != 0) {
            return -1;
        }
        at += bytes;
    }
    return now == DONE ? 0 : -1;
}

static int nor_read(void *user, uint32_t address, void *data, uint32_t bytes)
{
    ts_nor *nor = (ts_nor *)user;
    uint8_t *to = (uint8_t *)data;
    if (nor->unreadable || out_of_range(nor, address, bytes) ||
        nor->get(nor->user, address, to, bytes) != 0) {
        return -1;
    }
    const int garbage = is_weak(nor) && random_byte(nor) < 128;
    for (uint32_t i = 0; nor->units != NULL && i < bytes; ++i) {
        if (nor->units[(address + i) / nor->flash.program_bytes] == TS_UNIT_TORN) {
            if (nor->torn == TS_TORN_FAILS) {
                return -1;
            }
            to[i] = garbage ? random_byte(nor) : to[i];
        }
    }
    return 0;
}

void ts_nor_init(ts_nor *nor, uint32_t bytes, uint32_t sector_bytes, uint32_t program_bytes)
{
    nor->bytes = bytes;
    nor->flash = (ts_flash){nor_read, nor_program, nor_erase, nor, sector_bytes, program_bytes};
}

int ts_nor_memory_get(void *user, uint32_t address, uint8_t *data, uint32_t bytes)
{
    memcpy(data, (const uint8_t *)user + address, bytes);
    return 0;
}

int ts_nor_memory_put(void *user, uint32_t address, const uint8_t *data, uint32_t bytes)
{
    memcpy((uint8_t *)user + address, data, bytes);
    return 0;
}
