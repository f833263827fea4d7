/* Files and exit as calls over the serial link; remote_files.h.
 *
 * A call is a letter and what belongs to it; numbers are little-endian:
 *
 *     O mode name            open a file to read (r), write (w) or update (u): its handle, or nothing
 *     R file bytes(4)        read as many, or fewer: the data; nothing at the end
 *     W file bytes(2) data   write: nothing
 *     S file offset(4)       seek from the start: a byte when it succeeded
 *     X status(4) crc(4)(4)  the firmware has ended; CRC-32 of all that it read, and wrote
 *
 * Writes wait for the next call that returns something, or until a frame is full; in one frame they
 * come before it. */
#include "remote_files.h"

#include <string.h>

#include "tinsmith/ts_bytes.h"
#include "tinsmith/ts_crc32.h"
#include "ts_board.h"
#include "ts_link.h"

const char ts_link_name[] = TS_LINK_NAME;

enum { WRITE_HEADER = 4, READ_BYTES = 6, SEEK_BYTES = 6, EXIT_BYTES = 13, LONGEST_NAME = 14 };

static uint32_t read_check, written_check;
static uint32_t waiting; /* bytes of a write in the link's buffer */
static int written_file;

static void flush(void)
{
    const uint32_t bytes = waiting;
    uint32_t returned;
    if (bytes > 0) {
        waiting = 0;
        (void)ts_link_call(bytes, &returned);
    }
}

/* Where a call of so many bytes goes. */
static uint8_t *place(uint32_t bytes)
{
    if (waiting + bytes > ts_link_limit()) {
        flush();
    }
    return ts_link_buffer() + waiting;
}

static const uint8_t *make(uint32_t bytes, uint32_t *returned)
{
    const uint32_t all = waiting + bytes;
    waiting = 0;
    return ts_link_call(all, returned);
}

int ts_remote_open(char mode, const char *path)
{
    uint8_t *call = place(2 + LONGEST_NAME);
    uint32_t bytes = 2, returned;
    call[0] = 'O';
    call[1] = (uint8_t)mode;
    for (const char *c = path; *c != '\0' && bytes < 2 + LONGEST_NAME; ++c) {
        call[bytes++] = (uint8_t)*c;
    }
    const uint8_t *handle = make(bytes, &returned);
    return returned == 1 ? (int)handle[0] : -1;
}

int ts_remote_seek(int file, uint32_t offset)
{
    uint8_t *call = place(SEEK_BYTES);
    uint32_t returned;
    call[0] = 'S';
    call[1] = (uint8_t)file;
    ts_put_u32(call + 2, offset);
    (void)make(SEEK_BYTES, &returned);
    return returned == 1;
}

uint32_t ts_remote_read(int file, void *data, uint32_t bytes)
{
    uint8_t *to = (uint8_t *)data;
    uint32_t done = 0;
    while (done < bytes) {
        uint8_t *call = place(READ_BYTES);
        uint32_t returned;
        call[0] = 'R';
        call[1] = (uint8_t)file;
        ts_put_u32(call + 2, bytes - done);
        const uint8_t *part = make(READ_BYTES, &returned);
        if (returned == 0 || returned > bytes - done) {
            break;
        }
        memcpy(to + done, part, returned);
        read_check = ts_crc32(read_check, part, returned);
        done += returned;
    }
    return done;
}

void ts_remote_write(int file, const void *data, uint32_t bytes)
{
    const uint8_t *from = (const uint8_t *)data;
    uint8_t *const call = ts_link_buffer();
    for (uint32_t done = 0; done < bytes;) {
        if (waiting > 0 && (written_file != file || waiting == ts_link_limit())) {
            flush();
        }
        if (waiting == 0) {
            call[0] = 'W';
            call[1] = (uint8_t)file;
            written_file = file;
            waiting = WRITE_HEADER;
        }
        const uint32_t room = ts_link_limit() - waiting;
        const uint32_t part = bytes - done < room ? bytes - done : room;
        memcpy(call + waiting, from + done, part);
        written_check = ts_crc32(written_check, from + done, part);
        waiting += part;
        done += part;
        call[2] = (uint8_t)(waiting - WRITE_HEADER);
        call[3] = (uint8_t)((waiting - WRITE_HEADER) >> 8);
    }
}

_Noreturn void ts_remote_exit(int status)
{
    for (;;) {
        uint8_t *call = place(EXIT_BYTES);
        uint32_t returned;
        call[0] = 'X';
        ts_put_u32(call + 1, (uint32_t)status);
        ts_put_u32(call + 5, read_check);
        ts_put_u32(call + 9, written_check);
        (void)make(EXIT_BYTES, &returned);
    }
}
