/* The exhaustive test of ts_store: power goes before, in the middle of and after every operation of
 * several commits in a row, and again in the commit that follows. Runs on the host and in the
 * emulator; writes `counts` to outputs.bin. Long: every scenario needs the same flash, blocks and
 * counters, and says by its line where it failed. */
#include <string.h>

#include "harness.h"
#include "nor_flash.h"
#include "tinsmith/ts_store.h"

#ifndef CONFIGS /* {program bytes, sector bytes, block bytes, commits, whether to cut again} */
#define CONFIGS {4, 64, 40, 3, 1}, {16, 128, 129, 3, 0}
#endif

enum { MAX_BYTES = 16384, MAX_BLOCK = 2048, BLOCKS = 8, NONE = -1 };

typedef struct {
    uint32_t program_bytes, sector_bytes, length, commits, again;
} config;

static struct {
    uint32_t failed_line; /* of this file */
    uint32_t scenarios;
    uint32_t old_blocks; /* found after a cut */
    uint32_t new_blocks;
    uint32_t empty;
    uint32_t flips;
    uint32_t lies_noticed;
} counts;

static uint8_t memory[MAX_BYTES], units[MAX_BYTES], saved_memory[MAX_BYTES], saved_units[MAX_BYTES];
static uint8_t blocks[BLOCKS][MAX_BLOCK], loaded[MAX_BLOCK];
static const uint8_t base[TS_BASE_HASH_BYTES] = {1, 2, 3}, other_base[TS_BASE_HASH_BYTES] = {1, 2};
static ts_nor nor;
static ts_store store;

static _Noreturn void finish(uint32_t failed_line)
{
    const int outputs = ts_open_to_write("outputs.bin");
    counts.failed_line = failed_line;
    ts_exit(outputs >= 0 && ts_write(outputs, &counts, sizeof counts) ? TS_EXIT_OK
                                                                      : TS_EXIT_NO_OUTPUT);
}

static void check_at(int holds, uint32_t line)
{
    if (!holds) {
        finish(line);
    }
}
#define CHECK(holds) check_at((holds) && !nor.misused, __LINE__)

static void new_flash(const config *c)
{
    memset(&nor, 0, sizeof nor);
    memset(memory, 0xff, sizeof memory);
    memset(units, TS_UNIT_ERASED, sizeof units);
    nor.get = ts_nor_memory_get;
    nor.put = ts_nor_memory_put;
    nor.user = memory;
    nor.units = units;
    nor.random = 1;
    ts_nor_init(&nor, MAX_BYTES, c->sector_bytes, c->program_bytes);
}

static ts_status open_store(const config *c)
{
    return ts_store_open(&store, &nor.flash, c->sector_bytes, MAX_BYTES - c->sector_bytes, base,
                         c->length);
}

/* Power comes back: the number of the block that is found, NONE without one. */
static int reopen(const config *c)
{
    nor.off = 0;
    nor.cut_at = 0;
    const uint32_t operations = nor.operations;
    const ts_status status = open_store(c);
    int found = NONE;
    if (status == TS_OK && ts_store_load(&store, loaded) == TS_OK) {
        for (found = 0; memcmp(loaded, blocks[found], c->length) != 0;) {
            CHECK(++found < BLOCKS);
        }
    } else {
        CHECK(status == TS_STORE_EMPTY || (status == TS_OK && nor.torn == TS_TORN_WEAK));
    }
    CHECK(nor.operations == operations); /* looking writes nothing */
    return found;
}

/* Commits blocks `first` to `last` - 1; the number of those whose commit returned. */
static int commit_all(int first, int last)
{
    int done = first;
    while (done < last && ts_store_commit(&store, blocks[done]) == TS_OK) {
        ++done;
    }
    return done;
}

/* What may be found: the block that was in force, one whose commit was cut off; and, where a torn
 * unit reads differently every time, both until the next commit has returned. */
static uint32_t allowed;

static void expect_one_of(const config *c, int done, int attempted)
{
    const int found = reopen(c);
    CHECK(allowed & 1u << (found + 1));
    counts.scenarios += 1;
    counts.empty += found == NONE;
    counts.old_blocks += found == done - 1;
    counts.new_blocks += found != NONE && found == attempted;
    for (int again = 0; again < 3; ++again) {
        const int next = reopen(c);
        CHECK(nor.torn == TS_TORN_WEAK ? (int)(allowed >> (next + 1) & 1u) : next == found);
    }
    if (nor.torn != TS_TORN_WEAK) {
        allowed = 1u << (found + 1);
    }
}

static void commit_and_check(const config *c, int block)
{
    CHECK(ts_store_commit(&store, blocks[block]) == TS_OK);
    CHECK(reopen(c) == block);
}

/* After a first cut: one more commit, itself cut at every operation. */
static void cut_again(const config *c, int block)
{
    const ts_nor saved = nor;
    const ts_store saved_store = store;
    const uint32_t before = allowed;
    memcpy(saved_memory, memory, sizeof memory);
    memcpy(saved_units, units, sizeof units);
    for (ts_cut cut = TS_CUT_BEFORE; cut <= TS_CUT_AFTER; ++cut) {
        for (uint32_t at = 1;; ++at) {
            nor = saved;
            store = saved_store;
            allowed = before | 1u << (block + 1);
            memcpy(memory, saved_memory, sizeof memory);
            memcpy(units, saved_units, sizeof units);
            nor.cut = cut;
            nor.cut_at = nor.operations + at;
            nor.random += 2 * at;
            if (ts_store_commit(&store, blocks[block]) == TS_OK) {
                CHECK(reopen(c) == block);
                break;
            }
            expect_one_of(c, block, block);
            commit_and_check(c, block + 1);
        }
    }
}

static void cut_everywhere(const config *c, ts_torn torn)
{
    for (ts_cut cut = TS_CUT_BEFORE; cut <= TS_CUT_AFTER; ++cut) {
        for (uint32_t at = 1;; ++at) {
            new_flash(c);
            nor.torn = torn;
            nor.cut = cut;
            nor.random = at;
            CHECK(open_store(c) == TS_STORE_EMPTY);
            nor.cut_at = at;
            const int done = commit_all(0, (int)c->commits);
            if (done == (int)c->commits) {
                CHECK(reopen(c) == done - 1);
                break;
            }
            allowed = 1u << done | 1u << (done + 1);
            expect_one_of(c, done, done);
            if (c->again) {
                cut_again(c, done + 1);
            } else {
                commit_and_check(c, done + 1);
                commit_and_check(c, done + 2);
            }
        }
    }
}

/* One commit after the other on the same flash, most of them cut off somewhere, many in a row. */
static void cut_at_random(const config *c, ts_torn torn)
{
    new_flash(c);
    nor.torn = torn;
    CHECK(open_store(c) == TS_STORE_EMPTY);
    commit_and_check(c, 0);
    const uint32_t length = nor.operations; /* of one commit */
    uint32_t dice = 12345;
    allowed = 1u << 1;
    for (uint32_t i = 0; i < 300 + 2700 * c->again; ++i) {
        const int block = (int)(i % BLOCKS);
        dice = dice * 1664525u + 1013904223u;
        nor.cut = (ts_cut)((dice >> 8) % 3);
        const uint32_t range = dice >> 24 & 1 ? length : 4; /* half of them near the end */
        nor.cut_at = nor.operations + length + 2 - (dice >> 18 & 63) * (range + 1) / 64;
        if (ts_store_commit(&store, blocks[block]) == TS_OK) {
            allowed = 1u << (block + 1);
            CHECK(reopen(c) == block);
        } else {
            allowed |= 1u << (block + 1);
            expect_one_of(c, block, block);
        }
    }
}

/* An operation fails while power stays: the open store goes on. */
static void fail_everywhere(const config *c)
{
    for (uint32_t at = 1;; ++at) {
        new_flash(c);
        CHECK(open_store(c) == TS_STORE_EMPTY && commit_all(0, 2) == 2);
        nor.fail_at = nor.operations + at;
        if (ts_store_commit(&store, blocks[2]) == TS_OK) {
            return;
        }
        CHECK(store.counter == 2 && ts_store_load(&store, loaded) == TS_OK);
        CHECK(memcmp(loaded, blocks[1], c->length) == 0);
        commit_and_check(c, 3);
    }
}

/* An operation does nothing and says that it did; harmless only where nothing was to be done. */
static void lie_everywhere(const config *c)
{
    for (uint32_t at = 1;; ++at) {
        new_flash(c);
        CHECK(open_store(c) == TS_STORE_EMPTY && commit_all(0, 2) == 2);
        memset(units, TS_UNIT_ERASED, sizeof units); /* an erase that was skipped shows later */
        nor.lie_at = nor.operations + at;
        const ts_status status = ts_store_commit(&store, blocks[2]);
        nor.lie_at = nor.operations >= nor.lie_at ? 0 : nor.lie_at;
        if (nor.lie_at != 0) {
            return;
        }
        CHECK(reopen(c) == (status == TS_OK ? 2 : 1));
        counts.lies_noticed += status != TS_OK;
        commit_and_check(c, 3);
    }
}

/* Every bit of the slot in force, flipped: the other slot's block, or the same one. */
static void flip_every_bit(const config *c)
{
    new_flash(c);
    CHECK(open_store(c) == TS_STORE_EMPTY && commit_all(0, 2) == 2);
    const uint32_t start = c->sector_bytes + (store.current == 0 ? 0 : store.slot_bytes);
    for (uint32_t bit = 0; bit < 8 * store.slot_bytes; ++bit) {
        memory[start + bit / 8] ^= (uint8_t)(1u << bit % 8);
        const int found = reopen(c);
        CHECK(found == 0 || found == 1);
        counts.flips += found == 0;
        memory[start + bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK(reopen(c) == 1);
    memory[c->sector_bytes] ^= 1;
    memory[c->sector_bytes + store.slot_bytes] ^= 1;
    CHECK(reopen(c) == NONE);
    commit_and_check(c, 2);
}

static void format_everywhere(const config *c)
{
    for (ts_cut cut = TS_CUT_BEFORE; cut <= TS_CUT_AFTER; ++cut) {
        for (uint32_t at = 1;; ++at) {
            new_flash(c);
            CHECK(open_store(c) == TS_STORE_EMPTY && commit_all(0, 2 + (int)(at % 2)));
            nor.cut = cut;
            nor.cut_at = nor.operations + at;
            if (ts_store_format(&store) == TS_OK) {
                CHECK(reopen(c) == NONE);
                break;
            }
            const int found = reopen(c);
            CHECK(found == NONE || found == 1 + (int)(at % 2));
            commit_and_check(c, 4);
        }
    }
}

static void refuse_foreign(const config *c)
{
    new_flash(c);
    const uint32_t bytes = MAX_BYTES - c->sector_bytes, start = c->sector_bytes;
    CHECK(open_store(c) == TS_STORE_EMPTY && commit_all(0, 2) == 2);
    const uint32_t operations = nor.operations;
    CHECK(ts_store_open(&store, &nor.flash, start, bytes, other_base, c->length) ==
          TS_STORE_FOREIGN);
    CHECK(ts_store_load(&store, loaded) == TS_STORE_FOREIGN);
    CHECK(ts_store_commit(&store, blocks[2]) == TS_STORE_FOREIGN);
    CHECK(ts_store_open(&store, &nor.flash, start, bytes, base, c->length + 1) == TS_STORE_FOREIGN);
    CHECK(ts_store_commit(&store, blocks[2]) == TS_STORE_FOREIGN && nor.operations == operations);
    CHECK(reopen(c) == 1);
    CHECK(ts_store_open(&store, &nor.flash, start, bytes, other_base, c->length) ==
          TS_STORE_FOREIGN);
    CHECK(ts_store_format(&store) == TS_OK && ts_store_commit(&store, blocks[2]) == TS_OK);
    CHECK(open_store(c) == TS_STORE_FOREIGN);
}

static void spare_unreadable(const config *c)
{
    new_flash(c);
    CHECK(open_store(c) == TS_STORE_EMPTY && commit_all(0, 1) == 1);
    nor.unreadable = 1;
    const uint32_t operations = nor.operations;
    CHECK(ts_store_load(&store, loaded) == TS_FLASH_FAILED);
    CHECK(open_store(c) == TS_FLASH_FAILED);
    CHECK(ts_store_commit(&store, blocks[1]) == TS_FLASH_FAILED && nor.operations == operations);
    nor.unreadable = 0;
    CHECK(ts_store_commit(&store, blocks[1]) == TS_FLASH_FAILED && nor.operations == operations);
    CHECK(reopen(c) == 0);
    commit_and_check(c, 1);
}

static void refuse_misuse(const config *c)
{
    new_flash(c);
    const uint32_t need = ts_store_region_bytes(&nor.flash, c->length);
    CHECK(need > 2 * c->length && need % (2 * c->sector_bytes) == 0);
    CHECK(ts_store_open(&store, &nor.flash, 0, need - 1, base, c->length) == TS_STORE_TOO_SMALL);
    CHECK(ts_store_commit(&store, blocks[0]) == TS_BAD_ARGUMENT);
    CHECK(ts_store_load(&store, loaded) == TS_BAD_ARGUMENT);
    CHECK(ts_store_format(&store) == TS_BAD_ARGUMENT);
    CHECK(ts_store_open(&store, &nor.flash, 1, need, base, c->length) == TS_STORE_TOO_SMALL);
    CHECK(ts_store_open(&store, &nor.flash, 0, need, base, 0) == TS_BAD_ARGUMENT);
    CHECK(ts_store_open(&store, &nor.flash, 0, need, 0, c->length) == TS_BAD_ARGUMENT);
    CHECK(ts_store_open(&store, &nor.flash, 0, UINT32_MAX, base, UINT32_MAX) == TS_STORE_TOO_SMALL);
    CHECK(ts_store_open(&store, &nor.flash, 0, need, base, c->length) == TS_STORE_EMPTY);
    CHECK(ts_store_load(&store, loaded) == TS_STORE_EMPTY);
    nor.flash.program_bytes = TS_FLASH_MAX_PROGRAM_BYTES * 2;
    CHECK(ts_store_region_bytes(&nor.flash, c->length) == 0);
    nor.flash.program_bytes = 3;
    CHECK(ts_store_region_bytes(&nor.flash, c->length) == 0);
}

static void wrap_counter(const config *c)
{
    new_flash(c);
    CHECK(open_store(c) == TS_STORE_EMPTY);
    store.highest = 0xfffffffcu;
    for (int block = 0; block < 5; ++block) {
        static const uint32_t counters[] = {0xfffffffdu, 0xfffffffeu, 1, 2, 3};
        commit_and_check(c, block);
        CHECK(store.counter == counters[block]);
    }
}

int main(void)
{
    static const config configs[] = {CONFIGS};
    for (uint32_t block = 0; block < BLOCKS; ++block) {
        for (uint32_t i = 0; i < MAX_BLOCK; ++i) {
            blocks[block][i] = (uint8_t)(i * 7 + block * 31 + (i >> 8));
        }
    }
    for (uint32_t i = 0; i < sizeof configs / sizeof configs[0]; ++i) {
        const config *c = &configs[i];
        for (ts_torn torn = TS_TORN_STABLE; torn <= TS_TORN_FAILS; ++torn) {
            cut_everywhere(c, torn);
            cut_at_random(c, torn);
        }
        fail_everywhere(c);
        lie_everywhere(c);
        flip_every_bit(c);
        format_everywhere(c);
        refuse_foreign(c);
        spare_unreadable(c);
        refuse_misuse(c);
        wrap_counter(c);
    }
    finish(0);
}
