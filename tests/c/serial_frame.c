/* ts_frame.c for a test that loads it: a frame at a time. */
#include "ts_frame.h"

#include <string.h>

static uint8_t sent[4096];
static uint32_t sent_bytes;

static void put(uint8_t byte)
{
    sent[sent_bytes++] = byte;
}

uint32_t encode(const uint8_t *body, uint32_t payload_bytes, uint8_t *to);
int32_t decode(const uint8_t *line, uint32_t bytes, uint8_t *to, uint32_t capacity);

/* body: header and payload. Returns the bytes on the line. */
uint32_t encode(const uint8_t *body, uint32_t payload_bytes, uint8_t *to)
{
    uint8_t data[2048];
    memcpy(data, body, TS_FRAME_HEADER + payload_bytes);
    sent_bytes = 0;
    ts_frame_send(data, payload_bytes, put);
    memcpy(to, sent, sent_bytes);
    return sent_bytes;
}

/* The last frame of a line: its payload's bytes, as ts_frame_take. */
int32_t decode(const uint8_t *line, uint32_t bytes, uint8_t *to, uint32_t capacity)
{
    ts_frame_reader reader = {.data = to, .capacity = capacity};
    int32_t found = TS_FRAME_MORE;
    for (uint32_t i = 0; i < bytes; ++i) {
        const int32_t now = ts_frame_take(&reader, line[i]);
        found = now == TS_FRAME_MORE ? found : now;
    }
    return found;
}
