/* Frames on a serial line: a header, a payload and a CRC-32, in consistent overhead byte stuffing
 * (Cheshire and Baker, 1999) between zeros. The same bytes as compiler/tinsmith/serial_link. */
#ifndef TS_FRAME_H
#define TS_FRAME_H

#include <stdint.h>

enum { TS_FRAME_HEADER = 5, TS_FRAME_CHECK = 4 };

/* A frame on its way in. `data` holds `capacity` bytes. */
typedef struct {
    uint8_t *data;
    uint32_t capacity;
    uint32_t bytes; /* decoded so far */
    uint8_t block;  /* the code of the block that is being read */
    uint8_t left;   /* what is missing of it */
    uint8_t damaged;
} ts_frame_reader;

enum { TS_FRAME_MORE = -2, TS_FRAME_DAMAGED = -1 };

/* Takes the next byte of the line. Returns the bytes of the payload when it ends a whole frame,
 * which then lies in `data`, header first. */
int32_t ts_frame_take(ts_frame_reader *reader, uint8_t byte);

/* Sends a frame. data: the header, the payload, and room for the CRC. */
void ts_frame_send(uint8_t *data, uint32_t payload_bytes, void (*write)(uint8_t byte));

/* Fields of the header. */
void ts_frame_head(uint8_t *data, uint8_t type, uint16_t session, uint16_t number);
uint16_t ts_frame_session(const uint8_t *data);
uint16_t ts_frame_number(const uint8_t *data);

#endif
