/* The board's side of the serial link (docs/serial.md): calls that the host answers.
 *
 * The host leads: the board sends nothing that it was not asked for and needs no clock. The host
 * numbers its frames; the board answers each with one call, and the next frame is what the call
 * returned. A frame that comes twice is answered twice with the same call, so that a call is carried
 * out once, whatever the line loses. */
#ifndef TS_LINK_H
#define TS_LINK_H

#include <stdint.h>

#define TS_LINK_VERSION 1

#ifndef TS_LINK_PAYLOAD
#define TS_LINK_PAYLOAD 512u /* bytes of the longest payload, either way */
#endif

enum { TS_LINK_IDENTITY_BYTES = 20 };

/* What firmware this is: the linker's build identifier, and a name for people. */
extern const uint8_t ts_link_identity[TS_LINK_IDENTITY_BYTES];
extern const char ts_link_name[];

/* Where the next call is written: TS_LINK_PAYLOAD bytes. */
uint8_t *ts_link_buffer(void);

/* How long the host wants the next call to be at most; from 16 to TS_LINK_PAYLOAD. */
uint32_t ts_link_limit(void);

/* Makes the call of `bytes` bytes in the buffer and waits for what it returns, which stays until the
 * next call. The first call waits for a session. A host that begins another restarts the board. */
const uint8_t *ts_link_call(uint32_t bytes, uint32_t *returned_bytes);

#endif
