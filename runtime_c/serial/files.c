/* The harness's files over the serial link: what semihosting.c does, without a debugger.
 *
 * The one file that is updated in place, the flash, is read and written a block at a time: a store
 * works in units of some bytes, each of which would be a call. */
#include <string.h>

#include "harness.h"
#include "remote_files.h"

enum { BLOCK_BYTES = 512 };

static int updated = -1; /* the handle of the flash */
static uint32_t position;
static uint8_t block[BLOCK_BYTES];
static uint32_t block_start, block_bytes;
static int changed;

int ts_open_to_read(const char *path)
{
    return ts_remote_open('r', path);
}

int ts_open_to_write(const char *path)
{
    return ts_remote_open('w', path);
}

int ts_open_to_update(const char *path)
{
    updated = ts_remote_open('u', path);
    block_bytes = 0;
    return updated;
}

static void write_back(void)
{
    if (changed) {
        (void)ts_remote_seek(updated, block_start);
        ts_remote_write(updated, block, block_bytes);
        changed = 0;
    }
}

/* The bytes of the block from the position on; 0 at the end of the file. */
static uint32_t load_block(void)
{
    if (position - block_start >= block_bytes) {
        write_back();
        block_start = position - position % BLOCK_BYTES;
        block_bytes = 0;
        if (ts_remote_seek(updated, block_start)) {
            block_bytes = ts_remote_read(updated, block, BLOCK_BYTES);
        }
    }
    const uint32_t used = position - block_start;
    return used < block_bytes ? block_bytes - used : 0;
}

/* Moves bytes between the block and `to` or `from`, one of which is NULL. */
static uint32_t move(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
    uint32_t done = 0;
    while (done < bytes) {
        const uint32_t there = load_block();
        const uint32_t part = bytes - done < there ? bytes - done : there;
        if (part == 0) {
            break;
        }
        uint8_t *const place = block + (position - block_start);
        if (to != NULL) {
            memcpy(to + done, place, part);
        } else {
            memcpy(place, from + done, part);
            changed = 1;
        }
        position += part;
        done += part;
    }
    return done;
}

int ts_seek(int file, uint32_t offset)
{
    if (file != updated) {
        return ts_remote_seek(file, offset);
    }
    position = offset;
    return 1;
}

uint32_t ts_read(int file, void *data, uint32_t bytes)
{
    return file == updated ? move((uint8_t *)data, NULL, bytes) : ts_remote_read(file, data, bytes);
}

int ts_write(int file, const void *data, uint32_t bytes)
{
    if (file == updated) {
        return move(NULL, (const uint8_t *)data, bytes) == bytes;
    }
    ts_remote_write(file, data, bytes);
    return 1;
}

_Noreturn void ts_exit(int status)
{
    write_back();
    ts_remote_exit(status);
}
