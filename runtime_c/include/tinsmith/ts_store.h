/* Keeps one block of bytes (what a model has learnt) in flash, and survives a loss of power at any
 * moment: it always holds the old block or the new one, whole.
 *
 * The region is split into two slots; a commit fills the slot that is not in force. Layout of a
 * slot, each part rounded up to the flash's program unit, numbers little-endian:
 *
 *     header   magic u32, version u32, base hash [32], counter u32, length u32,
 *              CRC-32 of the payload u32, CRC-32 of the header so far u32
 *     payload  the block
 *     commit   magic u32, CRC-32 of the header u32; written last
 *     seal     the same with another magic; written when the commit word reads back
 *
 * Blocks of a protected model are authenticated: version 2, and between payload and commit word
 * lies the tag that its ts_authenticator made, which the payload's CRC-32 takes in, too.
 *
 * A slot whose parts do not agree holds nothing: a torn write, a half erased sector and a flipped
 * bit all look the same. A write that was cut off may read differently every time, so one last
 * word is not enough: a slot with both goes first, and of two slots with one the older. Then a slot
 * that is relied upon while the other is erased has a last word that was not cut off. Otherwise the
 * newer slot is in force. Counters run from 1 and skip 0 and 0xffffffff; a is newer
 * than b when 0 < (a - b) mod 2^32 < 2^31, so they may wrap. Opening writes nothing. */
#ifndef TS_STORE_H
#define TS_STORE_H

#include <stdint.h>

#include "tinsmith/ts_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TS_STORE_VERSION 1u
#define TS_BASE_HASH_BYTES 32u
#define TS_FLASH_MAX_PROGRAM_BYTES 256u

/* The caller's flash driver. Functions return 0 on success and only when the flash is done.
 *
 * read: any bytes. A unit whose write was cut off may make it fail (error-correcting flash).
 * program: erased units, `address` and `bytes` multiples of program_bytes, no more than once.
 * erase: the sector at `address`; it then reads as 0xff. */
typedef struct ts_flash {
    int (*read)(void *user, uint32_t address, void *data, uint32_t bytes);
    int (*program)(void *user, uint32_t address, const void *data, uint32_t bytes);
    int (*erase)(void *user, uint32_t address);
    void *user;
    uint32_t sector_bytes;  /* what one erase clears; a multiple of program_bytes */
    uint32_t program_bytes; /* the unit of programming, at most TS_FLASH_MAX_PROGRAM_BYTES */
} ts_flash;

/* Makes and checks what tells a block from one that somebody else wrote: in ts_update.h. Both
 * return TS_OK, or do not agree. in_force: the counter of the block that the store relies on
 * meanwhile. */
enum { TS_TAG_BYTES = 36 };
typedef struct ts_authenticator {
    ts_status (*make)(uint32_t counter, uint32_t in_force, const void *block, uint32_t bytes,
                      uint8_t *tag);
    ts_status (*check)(uint32_t counter, const void *block, uint32_t bytes, const uint8_t *tag);
} ts_authenticator;

/* An open store; owned by the caller, its fields by ts_store.c. */
typedef struct ts_store {
    const ts_flash *flash;
    const uint8_t *base_hash;
    const ts_authenticator *authenticator; /* NULL: blocks have no tag */
    uint32_t address;
    uint32_t slot_bytes;
    uint32_t length;
    uint32_t counter; /* of the block in force; 0 when there is none */
    uint32_t highest; /* counter seen in either slot */
    int32_t current;  /* the slot in force; without one, the slot that is filled last */
    ts_status status; /* what ts_store_open returned, or would now */
} ts_store;

/* The bytes of a region that holds blocks of `length` bytes; 0 when that is not possible. */
uint32_t ts_store_region_bytes(const ts_flash *flash, uint32_t length);
uint32_t ts_store_authentic_region_bytes(const ts_flash *flash, uint32_t length);

/* Looks for the block in force. `address` is the start of a sector; the region has `bytes` bytes.
 * base_hash: TS_BASE_HASH_BYTES bytes that outlive the store; only blocks that were committed with
 * the same hash and length are taken.
 *
 * TS_OK with a block, TS_STORE_EMPTY without one. TS_STORE_FOREIGN when there are only others, and
 * TS_FLASH_FAILED when neither slot can be read: commits are refused until it is opened again, or
 * until ts_store_format. Not open: TS_STORE_TOO_SMALL, TS_BAD_ARGUMENT. */
ts_status ts_store_open(ts_store *store, const ts_flash *flash, uint32_t address, uint32_t bytes,
                        const uint8_t *base_hash, uint32_t length);

/* The same for blocks with tags, which are checked when a block is loaded. `authenticator` outlives
 * the store. */
ts_status ts_store_open_authentic(ts_store *store, const ts_flash *flash, uint32_t address,
                                  uint32_t bytes, const uint8_t *base_hash, uint32_t length,
                                  const ts_authenticator *authenticator);

/* Copies the block in force into `block`. TS_STORE_NOT_AUTHENTIC when the tag of a slot was
 * refused: then store->counter is that of the older block, which was copied, and is in force; or
 * it is 0, and there is none. Otherwise what ts_store_open would return; when the block could no
 * longer be read, `block` may be half written. */
ts_status ts_store_load(ts_store *store, void *block);

/* Writes `block`; after TS_OK it is in force. TS_REFUSED: it got no tag, nothing has changed.
 * After TS_FLASH_FAILED the store holds the block it held before (or the new one, when the very
 * last write was reported as failed and was not), and a commit may be tried again. */
ts_status ts_store_commit(ts_store *store, const void *block);

/* Forgets every block, the one in force last. */
ts_status ts_store_format(ts_store *store);

#ifdef __cplusplus
}
#endif

#endif
