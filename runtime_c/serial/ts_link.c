#include "ts_link.h"

#include <string.h>

#include "ts_frame.h"
#include "ts_serial.h"

/* Types of frames; serial_link/frames.py has them too. */
enum { HELLO = 1, DATA = 2, POLL = 3, WELCOME = 0x81, CALL = 0x82, MISSED = 0x83, NO_SESSION = 0x84 };
enum { SHORTEST = 16, NAME_BYTES = 40, LIMIT_BYTES = 2 };

static uint8_t incoming[TS_FRAME_HEADER + TS_LINK_PAYLOAD + TS_FRAME_CHECK];
static uint8_t outgoing[TS_FRAME_HEADER + TS_LINK_PAYLOAD + TS_FRAME_CHECK];
static ts_frame_reader reader = {.data = incoming, .capacity = sizeof incoming};

static uint16_t session;
static uint16_t accepted; /* the host's last frame of the session */
static int opened;        /* the port */
static int in_session;
static uint32_t limit = SHORTEST;

uint8_t *ts_link_buffer(void)
{
    return outgoing + TS_FRAME_HEADER;
}

uint32_t ts_link_limit(void)
{
    return limit;
}

/* Numbers go round without 0, which is no frame's. */
static uint16_t after(uint16_t number)
{
    return number == UINT16_MAX ? 1 : (uint16_t)(number + 1);
}

/* The next frame, or damage. */
static int32_t receive(void)
{
    for (;;) {
        const int byte = ts_serial_read();
        const int32_t bytes = byte < 0 ? TS_FRAME_MORE : ts_frame_take(&reader, (uint8_t)byte);
        if (bytes != TS_FRAME_MORE) {
            return bytes;
        }
    }
}

static void send_short(uint8_t type, uint16_t of_session)
{
    uint8_t frame[TS_FRAME_HEADER + TS_FRAME_CHECK];
    ts_frame_head(frame, type, of_session, accepted);
    ts_frame_send(frame, 0, ts_serial_write);
}

static void welcome(uint16_t asked)
{
    uint8_t frame[TS_FRAME_HEADER + 3 + TS_LINK_IDENTITY_BYTES + NAME_BYTES + TS_FRAME_CHECK];
    uint8_t *const payload = frame + TS_FRAME_HEADER;
    uint32_t bytes = 3 + TS_LINK_IDENTITY_BYTES;
    payload[0] = TS_LINK_VERSION;
    payload[1] = (uint8_t)TS_LINK_PAYLOAD;
    payload[2] = (uint8_t)(TS_LINK_PAYLOAD >> 8);
    memcpy(payload + 3, ts_link_identity, TS_LINK_IDENTITY_BYTES);
    for (const char *c = ts_link_name; *c != '\0' && c < ts_link_name + NAME_BYTES; ++c) {
        payload[bytes++] = (uint8_t)*c;
    }
    ts_frame_head(frame, WELCOME, asked, 0);
    ts_frame_send(frame, bytes, ts_serial_write);
}

/* A host begins a session, or asks again because it heard no welcome. */
static void greet(int32_t payload_bytes)
{
    const uint16_t asked = ts_frame_session(incoming);
    const int same = in_session && asked == session;
    if (accepted != 0) {
        if (!same) {
            ts_restart(); /* whatever an earlier host began ends here; this one asks again */
        }
        return; /* an old copy */
    }
    if (payload_bytes >= 1 && incoming[TS_FRAME_HEADER] == TS_LINK_VERSION) {
        session = asked;
        in_session = 1;
    }
    welcome(asked);
}

/* Looks at a whole frame: whether it is the one that ends a call. */
static int look(int32_t payload_bytes, uint32_t call_bytes)
{
    const uint8_t type = incoming[0];
    const uint16_t number = ts_frame_number(incoming);
    const uint16_t of_session = ts_frame_session(incoming);
    if (type == HELLO) {
        greet(payload_bytes);
    } else if (!in_session || of_session != session) {
        send_short(NO_SESSION, of_session);
    } else if (number == accepted && accepted != 0) { /* the answer was lost: the same again */
        ts_frame_send(outgoing, call_bytes, ts_serial_write);
    } else if (type == POLL) {
        send_short(MISSED, session);
    } else if (type == DATA && number == after(accepted) && payload_bytes >= LIMIT_BYTES) {
        return 1;
    }
    return 0;
}

/* Waits for the host's next frame, during which `call_bytes` of the call may be wanted again. */
static uint32_t wait(uint32_t call_bytes)
{
    for (;;) {
        const int32_t bytes = receive();
        if (bytes < 0) {
            if (in_session) {
                send_short(MISSED, session);
            }
        } else if (look(bytes, call_bytes)) {
            const uint8_t *payload = incoming + TS_FRAME_HEADER;
            const uint32_t wanted = (uint32_t)payload[0] | (uint32_t)payload[1] << 8;
            accepted = ts_frame_number(incoming);
            limit = wanted < SHORTEST ? SHORTEST : wanted;
            limit = limit > TS_LINK_PAYLOAD ? TS_LINK_PAYLOAD : limit;
            return (uint32_t)bytes - LIMIT_BYTES;
        }
    }
}

const uint8_t *ts_link_call(uint32_t bytes, uint32_t *returned_bytes)
{
    if (!opened) {
        ts_serial_open();
        opened = 1;
        (void)wait(0); /* the session's first frame asks for the first call */
    }
    ts_frame_head(outgoing, CALL, session, accepted);
    ts_frame_send(outgoing, bytes, ts_serial_write);
    *returned_bytes = wait(bytes);
    return incoming + TS_FRAME_HEADER + LIMIT_BYTES;
}
