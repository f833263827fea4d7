/* Commands that keep what a model learns, as learn.c hands them on:
 *
 *     TS_COMMIT        where power is cut: operation from 1, 0 for never, and ts_cut (2 uint32);
 *                                                       the store's counter, and how many
 *                                                       operations it took (2 uint32)
 *     TS_ROLLBACK                                       the counter of what it took back (uint32)
 *     TS_EXPORT_DELTA                                   the delta's bytes (uint32), the delta and
 *                                                       zeros up to the most it can take, with a tag
 *     TS_APPLY_DELTA   the same                         the delta's counter (uint32)
 *
 * The flash is the file flash.bin, which outlives the firmware. */
#include "learn.h"

#include <stddef.h>

#include "nor_flash.h"

enum { TS_COMMIT = 4, TS_ROLLBACK = 5, TS_EXPORT_DELTA = 6, TS_APPLY_DELTA = 7 };
enum { SECTOR_BYTES = 2048, PROGRAM_BYTES = 8 };

static int file = -1;
static ts_nor nor;

static int get_file(void *user, uint32_t address, uint8_t *data, uint32_t bytes)
{
    (void)user;
    return ts_seek(file, address) && ts_read(file, data, bytes) == bytes ? 0 : -1;
}

static int put_file(void *user, uint32_t address, const uint8_t *data, uint32_t bytes)
{
    (void)user;
    return ts_seek(file, address) && ts_write(file, data, bytes) ? 0 : -1;
}

static int open_store(const ts_harness_model *model, ts_store *store)
{
    if (file < 0) {
        file = ts_open_to_update("flash.bin");
        if (file < 0) {
            return TS_FLASH_FAILED;
        }
        nor.get = get_file;
        nor.put = put_file;
        nor.random = 1;
        ts_nor_init(&nor, 0, SECTOR_BYTES, PROGRAM_BYTES);
    }
    nor.bytes = ts_store_region_bytes(&nor.flash, model->state_bytes);
    return model->learning->open(store, &nor.flash, nor.bytes);
}

static void commit(const ts_harness_model *model, int status)
{
    uint32_t cut[2];
    const uint32_t before = nor.operations;
    ts_store store = {.counter = 0};
    ts_get(cut, sizeof cut);
    if (status == 0) {
        status = open_store(model, &store);
        status = status == TS_STORE_EMPTY ? TS_OK : status;
    }
    if (status == 0) {
        nor.cut_at = cut[0] > 0 ? nor.operations + cut[0] : 0;
        nor.cut = (ts_cut)cut[1];
        status = model->learning->commit(&store);
        if (nor.off) {
            ts_exit(TS_EXIT_POWER_CUT);
        }
    }
    const uint32_t answer[2] = {store.counter, nor.operations - before};
    ts_put_record(status, 0, 0);
    ts_put(answer, sizeof answer);
}

static void roll_back(const ts_harness_model *model, int status)
{
    ts_store store = {.counter = 0};
    if (status == 0) {
        status = open_store(model, &store);
        if (status == TS_OK || status == TS_STORE_EMPTY) {
            status = model->learning->rollback(&store);
        }
    }
    ts_put_record(status, 0, 0);
    ts_put(&store.counter, sizeof store.counter);
}

static void export_delta(const ts_harness_model *model, int status)
{
    static const uint8_t nothing[64];
    const uint32_t most = TS_DELTA_MAX_BYTES(model->state_bytes) + TS_TAG_BYTES;
    const ts_harness_learning *m = model->learning;
    uint32_t bytes = 0;
    ts_store store = {.counter = 0};
    if (status == 0) {
        (void)open_store(model, &store);
        status = m->export_delta(store.counter, m->arena, m->arena_bytes, &bytes);
    }
    ts_put_record(status, 0, 0);
    ts_put(&bytes, sizeof bytes);
    ts_put(m->arena, bytes);
    for (uint32_t at = bytes; at < most;) {
        const uint32_t n = most - at < sizeof nothing ? most - at : (uint32_t)sizeof nothing;
        ts_put(nothing, n);
        at += n;
    }
}

static void apply_delta(const ts_harness_model *model, int status)
{
    const uint32_t most = TS_DELTA_MAX_BYTES(model->state_bytes) + TS_TAG_BYTES;
    const ts_harness_learning *m = model->learning;
    uint8_t rest[64];
    uint32_t bytes, counter = 0;
    ts_get(&bytes, sizeof bytes);
    const uint32_t held = most < m->arena_bytes ? most : m->arena_bytes;
    ts_get(m->arena, held);
    for (uint32_t at = held; at < most;) {
        const uint32_t n = most - at < sizeof rest ? most - at : (uint32_t)sizeof rest;
        ts_get(rest, n);
        at += n;
    }
    if (status == 0) {
        status = bytes > held ? TS_BUFFER_TOO_SMALL : m->apply_delta(m->arena, bytes, &counter);
    }
    ts_put_record(status, 0, 0);
    ts_put(&counter, sizeof counter);
}

void ts_harness_keep(uint32_t command, const ts_harness_model *model, int status)
{
    switch (command) {
    case TS_COMMIT:
        commit(model, status);
        break;
    case TS_ROLLBACK:
        roll_back(model, status);
        break;
    case TS_EXPORT_DELTA:
        export_delta(model, status);
        break;
    case TS_APPLY_DELTA:
        apply_delta(model, status);
        break;
    default:
        ts_exit(TS_EXIT_BAD_SAMPLES);
    }
}
