/* The slots of ts_store.c: their layout, and what they hold. Only for ts_store.c. */
#ifndef TS_STORE_SLOT_H
#define TS_STORE_SLOT_H

#include <stddef.h>
#include <string.h>

#include "tinsmith/ts_bytes.h"
#include "tinsmith/ts_crc32.h"
#include "tinsmith/ts_store.h"

enum {
    HEADER_BYTES = 56,
    BASE_HASH_AT = 8,
    COUNTER_AT = 40,
    LENGTH_AT = 44,
    PAYLOAD_CRC_AT = 48,
    HEADER_CRC_AT = 52,
    WORD_BYTES = 8,
    CHUNK_BYTES = 64
};

#define HEADER_MAGIC 0x53545354u /* "TSTS" */
#define COMMIT_MAGIC 0x434d4f43u /* "COMC" */
#define SEAL_MAGIC 0x4c414553u   /* "SEAL" */

/* From SLOT_UNSEALED on a slot's block is intact; the higher state goes first. */
typedef enum {
    SLOT_UNREADABLE,
    SLOT_NOTHING,
    SLOT_FOREIGN,
    SLOT_UNSEALED,
    SLOT_SEALED
} slot_state;

/* `bytes` rounded up to whole units; in 64 bits, so that nothing wraps. */
static inline uint64_t whole(uint64_t bytes, uint32_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

static inline uint32_t payload_at(const ts_store *store)
{
    return (uint32_t)whole(HEADER_BYTES, store->flash->program_bytes);
}

static inline uint32_t tag_at(const ts_store *store)
{
    return payload_at(store) + (uint32_t)whole(store->length, store->flash->program_bytes);
}

static inline uint32_t commit_at(const ts_store *store)
{
    const uint32_t bytes = store->authenticator == NULL ? 0 : (uint32_t)TS_TAG_BYTES;
    return tag_at(store) + (uint32_t)whole(bytes, store->flash->program_bytes);
}

static inline uint32_t seal_at(const ts_store *store)
{
    return commit_at(store) + (uint32_t)whole(WORD_BYTES, store->flash->program_bytes);
}

static inline uint64_t slot_need(const ts_flash *flash, uint32_t length, uint32_t tag_bytes)
{
    const uint32_t unit = flash->program_bytes;
    const uint64_t bytes = whole(HEADER_BYTES, unit) + whole(length, unit) +
                           whole(tag_bytes, unit) + 2 * whole(WORD_BYTES, unit);
    return whole(bytes, flash->sector_bytes);
}

static inline uint32_t version_of(const ts_store *store)
{
    return TS_STORE_VERSION + (store->authenticator == NULL ? 0u : 1u);
}

static inline int flash_is_supported(const ts_flash *flash)
{
    return flash->program_bytes > 0 && flash->program_bytes <= TS_FLASH_MAX_PROGRAM_BYTES &&
           flash->sector_bytes > 0 && flash->sector_bytes % flash->program_bytes == 0;
}

static inline uint32_t slot_address(const ts_store *store, int32_t slot)
{
    return store->address + (slot == 0 ? 0u : store->slot_bytes);
}

static inline int newer(uint32_t a, uint32_t b)
{
    return a - b - 1u < 0x7fffffffu;
}

static inline int read_flash(const ts_store *store, uint32_t address, void *data, uint32_t bytes)
{
    return store->flash->read(store->flash->user, address, data, bytes) == 0;
}

/* CRC-32 of the payload in flash; `copy`, when given, receives what was summed. 0 on failure. */
static inline int read_payload(const ts_store *store, uint32_t address, uint8_t *copy,
                               uint32_t *crc)
{
    uint8_t chunk[CHUNK_BYTES];
    *crc = 0;
    for (uint32_t at = 0; at < store->length;) {
        const uint32_t left = store->length - at;
        const uint32_t bytes = left < CHUNK_BYTES ? left : (uint32_t)CHUNK_BYTES;
        uint8_t *to = copy == NULL ? chunk : copy + at;
        if (!read_flash(store, address + at, to, bytes)) {
            return 0;
        }
        *crc = ts_crc32(*crc, to, bytes);
        at += bytes;
    }
    return 1;
}

/* The same of the tag, where there is one; the sum goes on. */
static inline int read_tag(const ts_store *store, uint32_t address, uint8_t *copy, uint32_t *crc)
{
    uint8_t tag[TS_TAG_BYTES];
    uint8_t *to = copy == NULL ? tag : copy;
    if (store->authenticator == NULL) {
        return 1;
    }
    if (!read_flash(store, address, to, TS_TAG_BYTES)) {
        return 0;
    }
    *crc = ts_crc32(*crc, to, TS_TAG_BYTES);
    return 1;
}

/* Whether one of the slot's last words is there, and belongs to its header. */
static inline int has_word(const ts_store *store, uint32_t address, uint32_t magic,
                           uint32_t header_crc)
{
    uint8_t word[WORD_BYTES];
    return read_flash(store, address, word, WORD_BYTES) && ts_get_u32(word) == magic &&
           ts_get_u32(word + 4) == header_crc;
}

/* What a slot holds; its payload is copied to `copy` and its tag to `tag` when those are given.
 * counter: of any intact header of this model, 0 without one. */
static inline slot_state read_slot(const ts_store *store, int32_t slot, uint8_t *copy,
                                   uint8_t *tag, uint32_t *counter)
{
    const uint32_t address = slot_address(store, slot);
    uint8_t header[HEADER_BYTES];
    uint32_t crc;
    *counter = 0;
    if (!read_flash(store, address, header, HEADER_BYTES)) {
        return SLOT_UNREADABLE;
    }
    const uint32_t header_crc = ts_crc32(0, header, HEADER_CRC_AT);
    if (ts_get_u32(header) != HEADER_MAGIC || ts_get_u32(header + HEADER_CRC_AT) != header_crc) {
        return SLOT_NOTHING;
    }
    if (ts_get_u32(header + 4) != version_of(store) ||
        ts_get_u32(header + LENGTH_AT) != store->length ||
        memcmp(header + BASE_HASH_AT, store->base_hash, TS_BASE_HASH_BYTES) != 0) {
        return SLOT_FOREIGN;
    }
    *counter = ts_get_u32(header + COUNTER_AT);
    const int words = has_word(store, address + commit_at(store), COMMIT_MAGIC, header_crc) +
                      has_word(store, address + seal_at(store), SEAL_MAGIC, header_crc);
    if (words == 0) {
        return SLOT_NOTHING;
    }
    if (!read_payload(store, address + payload_at(store), copy, &crc) ||
        !read_tag(store, address + tag_at(store), tag, &crc)) {
        return SLOT_UNREADABLE;
    }
    if (crc != ts_get_u32(header + PAYLOAD_CRC_AT)) {
        return SLOT_NOTHING;
    }
    return words == 2 ? SLOT_SEALED : SLOT_UNSEALED;
}

#endif
