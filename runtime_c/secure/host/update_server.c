/* Updates of a simulated pair, the secure world's side: the device's decision without its checks of
 * pointers, which a process has no need of. */
#include <string.h>

#include "../update.h"
#include "ts_host_world.h"

int ts_host_serve_update(int file);

static ts_update_state state = TS_UPDATE_STATE_AT_BOOT;

/* Any bytes that no request may have are taken from the socket all the same. */
static int take(int file, uint8_t *data, uint32_t bytes)
{
    uint8_t rest[256];
    const uint32_t held = bytes < ts_update_buffer_bytes ? bytes : ts_update_buffer_bytes;
    int came = ts_host_receive(file, data, held);
    for (uint32_t at = held; came && at < bytes;) {
        const uint32_t n = bytes - at < sizeof rest ? bytes - at : (uint32_t)sizeof rest;
        came = ts_host_receive(file, rest, n);
        at += n;
    }
    return came;
}

int ts_host_serve_update(int file)
{
    uint32_t numbers[4], answer = 0;
    uint8_t tag[TS_TAG_BYTES];
    if (!ts_host_receive(file, numbers, sizeof numbers) ||
        !ts_host_receive(file, tag, sizeof tag) || !take(file, ts_update_buffer, numbers[3])) {
        return 0;
    }
    ts_update_job job = {.kind = numbers[0], .counter = numbers[1], .in_force = numbers[2],
                         .bytes = numbers[3], .data = (uintptr_t)ts_update_buffer};
    memcpy(job.tag, tag, sizeof tag);
    if (job.bytes <= ts_update_buffer_bytes &&
        ts_update_by_difference(&job, &state) == TS_UPDATE_CHECKS * TS_UPDATE_BY_DIFFERENCE &&
        ts_update_by_count(&job, &state) == TS_UPDATE_CHECKS * TS_UPDATE_BY_COUNT) {
        ts_update_note(&job, &job, &state);
        memcpy(tag, job.tag, sizeof tag);
        answer = TS_UPDATE_DONE(job.kind);
    }
    return ts_host_send(file, &answer, sizeof answer) && ts_host_send(file, tag, sizeof tag);
}
