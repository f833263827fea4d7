#include "ts_frame.h"

#include "tinsmith/ts_bytes.h"
#include "tinsmith/ts_crc32.h"

enum { LONGEST_BLOCK = 255 };

static void start(ts_frame_reader *reader)
{
    reader->bytes = 0;
    reader->block = LONGEST_BLOCK; /* no zero comes before the first block */
    reader->left = 0;
    reader->damaged = 0;
}

static void append(ts_frame_reader *reader, uint8_t byte)
{
    if (reader->bytes < reader->capacity) {
        reader->data[reader->bytes] = byte;
        reader->bytes += 1;
    } else {
        reader->damaged = 1;
    }
}

static int32_t finish(ts_frame_reader *reader)
{
    const uint32_t bytes = reader->bytes;
    const int whole = !reader->damaged && reader->left == 0;
    start(reader);
    if (bytes == 0 && whole) {
        return TS_FRAME_MORE; /* between two zeros */
    }
    if (!whole || bytes < TS_FRAME_HEADER + TS_FRAME_CHECK) {
        return TS_FRAME_DAMAGED;
    }
    const uint32_t covered = bytes - TS_FRAME_CHECK;
    if (ts_crc32(0, reader->data, covered) != ts_get_u32(reader->data + covered)) {
        return TS_FRAME_DAMAGED;
    }
    return (int32_t)(covered - TS_FRAME_HEADER);
}

int32_t ts_frame_take(ts_frame_reader *reader, uint8_t byte)
{
    if (reader->block == 0) { /* a new reader */
        start(reader);
    }
    if (byte == 0) {
        return finish(reader);
    }
    if (reader->left > 0) {
        append(reader, byte);
        reader->left -= 1;
    } else {
        if (reader->block != LONGEST_BLOCK) {
            append(reader, 0);
        }
        reader->block = byte;
        reader->left = (uint8_t)(byte - 1u);
    }
    return TS_FRAME_MORE;
}

void ts_frame_send(uint8_t *data, uint32_t payload_bytes, void (*write)(uint8_t byte))
{
    const uint32_t covered = TS_FRAME_HEADER + payload_bytes;
    const uint32_t bytes = covered + TS_FRAME_CHECK;
    ts_put_u32(data + covered, ts_crc32(0, data, covered));
    write(0); /* ends what was noise until now */
    uint32_t at = 0;
    int more = 1;
    while (more) {
        uint32_t end = at;
        while (end < bytes && data[end] != 0 && end - at < LONGEST_BLOCK - 1) {
            ++end;
        }
        const uint32_t code = end - at + 1;
        write((uint8_t)code);
        for (; at < end; ++at) {
            write(data[at]);
        }
        more = at < bytes;
        if (more && code != LONGEST_BLOCK) {
            ++at; /* the zero that the block stands for; after the last one comes an empty block */
        }
    }
    write(0);
}

void ts_frame_head(uint8_t *data, uint8_t type, uint16_t session, uint16_t number)
{
    data[0] = type;
    data[1] = (uint8_t)session;
    data[2] = (uint8_t)(session >> 8);
    data[3] = (uint8_t)number;
    data[4] = (uint8_t)(number >> 8);
}

uint16_t ts_frame_session(const uint8_t *data)
{
    return (uint16_t)(data[1] | data[2] << 8);
}

uint16_t ts_frame_number(const uint8_t *data)
{
    return (uint16_t)(data[3] | data[4] << 8);
}
