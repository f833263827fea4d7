/* Whether what a model has learnt is authentic, in two forms (gateway.c says why). */
#ifndef TS_SECURE_UPDATE_H
#define TS_SECURE_UPDATE_H

#include "gateway.h"
#include "hmac.h"
#include "tinsmith/ts_update.h"

/* Of the model that learns; the generated update_binding.c. */
extern const uint8_t ts_update_base[TS_BASE_HASH_BYTES];
extern const uint32_t ts_update_state_bytes, ts_update_delta_bytes; /* of a delta: at most */
extern uint8_t ts_update_buffer[]; /* of the host's simulation alone */
extern const uint32_t ts_update_buffer_bytes;

/* A request as it was taken; the tag: the caller's, or made here. */
typedef struct {
    uint32_t kind, counter, in_force, bytes;
    uintptr_t data, tag_at;
    uint8_t tag[TS_TAG_BYTES];
} ts_update_job;

/* Since boot. floor: no state older than this counter is taken; 0: any. sequence: of the last delta
 * that was taken. */
typedef struct {
    volatile uint32_t floor, floor_inverted, sequence, sequence_inverted;
} ts_update_state;
#define TS_UPDATE_STATE_AT_BOOT {0, ~0u, 0, ~0u}

#define TS_UPDATE_BY_DIFFERENCE 0x35B9C6D3u
#define TS_UPDATE_BY_COUNT 0xC94A1E67u
enum { TS_UPDATE_CHECKS = 3 };

/* TS_UPDATE_CHECKS times the form's token where the job may be done; else another word. Each form
 * computes the code itself. Where one is to be made, each form puts it into its job. */
uint32_t ts_update_by_difference(volatile ts_update_job *job, const ts_update_state *state);
uint32_t ts_update_by_count(volatile ts_update_job *job, const ts_update_state *state);

/* Remembers what was accepted; both jobs hold the same request. */
void ts_update_note(const volatile ts_update_job *one, const volatile ts_update_job *other,
                    ts_update_state *state);

#endif
