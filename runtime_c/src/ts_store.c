#include "tinsmith/ts_store.h"

#include "ts_store_slot.h"

static uint32_t region_bytes(const ts_flash *flash, uint32_t length, uint32_t tag_bytes)
{
    if (flash == NULL || !flash_is_supported(flash) || length == 0) {
        return 0;
    }
    const uint64_t bytes = 2 * slot_need(flash, length, tag_bytes);
    return bytes > UINT32_MAX ? 0 : (uint32_t)bytes;
}

uint32_t ts_store_region_bytes(const ts_flash *flash, uint32_t length)
{
    return region_bytes(flash, length, 0);
}

uint32_t ts_store_authentic_region_bytes(const ts_flash *flash, uint32_t length)
{
    return region_bytes(flash, length, TS_TAG_BYTES);
}

static uint32_t next_counter(uint32_t counter)
{
    return counter >= 0xfffffffeu ? 1u : counter + 1u;
}

/* Of two slots without a block an unreadable one, most likely a torn one, is filled first. */
static ts_status find_current(ts_store *store)
{
    slot_state states[2];
    uint32_t counters[2];
    store->highest = 0;
    for (int32_t slot = 0; slot < 2; ++slot) {
        states[slot] = read_slot(store, slot, NULL, NULL, &counters[slot]);
        if (counters[slot] != 0 && (store->highest == 0 || newer(counters[slot], store->highest))) {
            store->highest = counters[slot];
        }
    }
    /* Of two unsealed slots the older is sound: it was relied upon when the newer was begun. */
    const int swap = states[0] == SLOT_UNSEALED;
    const int second = states[1] > states[0] || (states[1] == states[0] &&
                                                 newer(counters[1 - swap], counters[swap]));
    const slot_state best = states[second];
    store->current = second;
    store->counter = best >= SLOT_UNSEALED ? counters[second] : 0;
    store->status = best >= SLOT_UNSEALED ? TS_OK : TS_STORE_EMPTY;
    if (best == SLOT_FOREIGN) {
        store->status = TS_STORE_FOREIGN;
    } else if (states[0] == SLOT_UNREADABLE && states[1] == SLOT_UNREADABLE) {
        store->status = TS_FLASH_FAILED;
    }
    return store->status;
}

static ts_status open_store(ts_store *store, const ts_flash *flash, uint32_t address,
                            uint32_t bytes, const uint8_t *base_hash, uint32_t length,
                            const ts_authenticator *authenticator)
{
    if (store == NULL || flash == NULL || base_hash == NULL || length == 0) {
        return TS_BAD_ARGUMENT;
    }
    store->flash = NULL;
    const uint32_t need = region_bytes(flash, length, authenticator == NULL ? 0 : TS_TAG_BYTES);
    if (need == 0 || bytes < need || address % flash->sector_bytes != 0 ||
        need - 1 > UINT32_MAX - address) {
        return TS_STORE_TOO_SMALL;
    }
    store->flash = flash;
    store->base_hash = base_hash;
    store->authenticator = authenticator;
    store->address = address;
    store->slot_bytes = need / 2;
    store->length = length;
    return find_current(store);
}

ts_status ts_store_open(ts_store *store, const ts_flash *flash, uint32_t address, uint32_t bytes,
                        const uint8_t *base_hash, uint32_t length)
{
    return open_store(store, flash, address, bytes, base_hash, length, NULL);
}

ts_status ts_store_open_authentic(ts_store *store, const ts_flash *flash, uint32_t address,
                                  uint32_t bytes, const uint8_t *base_hash, uint32_t length,
                                  const ts_authenticator *authenticator)
{
    return authenticator == NULL
               ? TS_BAD_ARGUMENT
               : open_store(store, flash, address, bytes, base_hash, length, authenticator);
}

/* The other slot is in force, if it holds a block: one that was not yet refused. */
static void refuse_current(ts_store *store)
{
    uint32_t counter;
    store->current = 1 - store->current;
    if (read_slot(store, store->current, NULL, NULL, &counter) < SLOT_UNSEALED) {
        store->status = TS_STORE_EMPTY;
    }
}

ts_status ts_store_load(ts_store *store, void *block)
{
    if (store == NULL || store->flash == NULL || block == NULL) {
        return TS_BAD_ARGUMENT;
    }
    uint32_t refused = 0;
    uint8_t tag[TS_TAG_BYTES];
    /* What was intact when last looked at may not be now: then the other slot is next. */
    for (int32_t tries = 0; tries < 2 && store->status == TS_OK; ++tries) {
        uint32_t counter;
        if (read_slot(store, store->current, (uint8_t *)block, tag, &counter) < SLOT_UNSEALED) {
            (void)find_current(store);
        } else if (store->authenticator == NULL ||
                   store->authenticator->check(counter, block, store->length, tag) == TS_OK) {
            store->counter = counter;
            return refused == 0 ? TS_OK : TS_STORE_NOT_AUTHENTIC;
        } else {
            refused = 1;
            refuse_current(store);
        }
    }
    if (refused != 0) {
        store->counter = 0;
        store->status = TS_STORE_EMPTY;
        return TS_STORE_NOT_AUTHENTIC;
    }
    return store->status == TS_OK ? TS_FLASH_FAILED : store->status;
}

/* Programs bytes from a unit's start on; the last unit is filled up with 0xff. */
static int program(const ts_store *store, uint32_t address, const void *block, uint32_t bytes)
{
    const uint8_t *data = (const uint8_t *)block;
    const ts_flash *flash = store->flash;
    const uint32_t rest = bytes % flash->program_bytes;
    const uint32_t full = bytes - rest;
    if (full > 0 && flash->program(flash->user, address, data, full) != 0) {
        return 0;
    }
    if (rest > 0) {
        uint8_t unit[TS_FLASH_MAX_PROGRAM_BYTES];
        memset(unit, 0xff, flash->program_bytes);
        memcpy(unit, data + full, rest);
        return flash->program(flash->user, address + full, unit, flash->program_bytes) == 0;
    }
    return 1;
}

static int erase_slot(const ts_store *store, int32_t slot)
{
    const ts_flash *flash = store->flash;
    const uint32_t address = slot_address(store, slot);
    for (uint32_t at = 0; at < store->slot_bytes; at += flash->sector_bytes) {
        if (flash->erase(flash->user, address + at) != 0) {
            return 0;
        }
    }
    return 1;
}

/* The second of the last words must not be begun before the first is sound: it is read back. */
static int write_word(const ts_store *store, uint32_t address, uint32_t magic, uint32_t header_crc)
{
    uint8_t word[WORD_BYTES];
    ts_put_u32(word, magic);
    ts_put_u32(word + 4, header_crc);
    return program(store, address, word, WORD_BYTES) &&
           has_word(store, address, magic, header_crc);
}

static uint32_t make_header(const ts_store *store, const void *block, const uint8_t *tag,
                            uint8_t *header)
{
    uint32_t sum = ts_crc32(0, block, store->length);
    if (store->authenticator != NULL) {
        sum = ts_crc32(sum, tag, TS_TAG_BYTES);
    }
    ts_put_u32(header, HEADER_MAGIC);
    ts_put_u32(header + 4, version_of(store));
    memcpy(header + BASE_HASH_AT, store->base_hash, TS_BASE_HASH_BYTES);
    ts_put_u32(header + COUNTER_AT, next_counter(store->highest));
    ts_put_u32(header + LENGTH_AT, store->length);
    ts_put_u32(header + PAYLOAD_CRC_AT, sum);
    const uint32_t crc = ts_crc32(0, header, HEADER_CRC_AT);
    ts_put_u32(header + HEADER_CRC_AT, crc);
    return crc;
}

ts_status ts_store_commit(ts_store *store, const void *block)
{
    if (store == NULL || store->flash == NULL || block == NULL) {
        return TS_BAD_ARGUMENT;
    }
    if (store->status != TS_OK && store->status != TS_STORE_EMPTY) {
        return store->status;
    }
    const int32_t slot = 1 - store->current;
    const uint32_t address = slot_address(store, slot);
    uint8_t header[HEADER_BYTES], tag[TS_TAG_BYTES] = {0};
    if (store->authenticator != NULL &&
        store->authenticator->make(next_counter(store->highest), store->counter, block,
                                   store->length, tag) != TS_OK) {
        return TS_REFUSED;
    }
    const uint32_t crc = make_header(store, block, tag, header);
    /* Erased even if it looks so: an erase that was cut off leaves cells that read as 1 for now. */
    const int done = erase_slot(store, slot) && program(store, address, header, HEADER_BYTES) &&
                     program(store, address + payload_at(store), block, store->length) &&
                     (store->authenticator == NULL ||
                      program(store, address + tag_at(store), tag, TS_TAG_BYTES)) &&
                     write_word(store, address + commit_at(store), COMMIT_MAGIC, crc) &&
                     write_word(store, address + seal_at(store), SEAL_MAGIC, crc);
    (void)find_current(store); /* reads everything back: what the flash says is the truth */
    return done && store->status == TS_OK && store->current == slot ? TS_OK : TS_FLASH_FAILED;
}

ts_status ts_store_format(ts_store *store)
{
    if (store == NULL || store->flash == NULL) {
        return TS_BAD_ARGUMENT;
    }
    /* In this order, so that no older block comes to light. */
    const int32_t last = store->current;
    const int done = erase_slot(store, 1 - last) && erase_slot(store, last);
    const ts_status status = find_current(store);
    return done && status == TS_STORE_EMPTY ? TS_OK : TS_FLASH_FAILED;
}
