#include "update.h"

#include "tinsmith/ts_bytes.h"
#include "tinsmith/ts_delta.h"

static const uint8_t domain[18] = "tinsmith update 1";

static uint32_t sequence_of(const volatile ts_update_job *job)
{
    return (uint32_t)job->tag[0] | (uint32_t)job->tag[1] << 8 | (uint32_t)job->tag[2] << 16 |
           (uint32_t)job->tag[3] << 24;
}

static void put_sequence(volatile ts_update_job *job, uint32_t sequence)
{
    for (uint32_t i = 0; i < 4; ++i) {
        job->tag[i] = (uint8_t)(sequence >> 8 * i);
    }
}

TS_APART void ts_update_code(const volatile ts_update_job *job, uint8_t code[TS_MAC_BYTES])
{
    uint8_t numbers[16];
    ts_hmac mac;
    ts_put_u32(numbers, job->kind == TS_TAG_STATE ? (uint32_t)TS_CHECK_STATE : job->kind);
    ts_put_u32(numbers + 4, job->counter);
    ts_put_u32(numbers + 8, job->bytes);
    ts_put_u32(numbers + 12, sequence_of(job));
    ts_hmac_start(&mac, ts_update_key);
    ts_hmac_add(&mac, domain, sizeof domain);
    ts_hmac_add(&mac, ts_update_base, TS_BASE_HASH_BYTES);
    ts_hmac_add(&mac, numbers, sizeof numbers);
    ts_hmac_add(&mac, (const void *)job->data, job->bytes);
    ts_hmac_finish(&mac, code);
}

static void forget(uint8_t code[TS_MAC_BYTES])
{
    volatile uint8_t *const byte = code;
    for (uint32_t i = 0; i < TS_MAC_BYTES; ++i) {
        byte[i] = 0;
    }
}

/* 1 where counter a comes before b; 0 is none, and before all. Counters wrap (ts_store.h). */
static uint32_t before(uint32_t a, uint32_t b)
{
    return (b != 0u) & ((a == 0u) | (b - a - 1u < 0x7FFFFFFFu));
}

/* 1 for a counter that is neither the floor nor after it. */
static uint32_t older(uint32_t counter, uint32_t floor)
{
    return (floor != 0u) & (counter != floor) & (before(floor, counter) ^ 1u);
}

TS_APART uint32_t ts_update_by_difference(volatile ts_update_job *job, const ts_update_state *state)
{
    const uint32_t kind = job->kind, bytes = job->bytes;
    uint8_t code[TS_MAC_BYTES];
    uint32_t bad = 0, token = 0;
    if (kind == TS_CHECK_DELTA) {
        bad |= (bytes < TS_DELTA_HEADER_BYTES) | (bytes > ts_update_delta_bytes) | job->counter;
        token = ts_counted(token, TS_UPDATE_BY_DIFFERENCE);
        bad |= sequence_of(job) <= state->sequence;
    } else {
        bad |= (bytes ^ ts_update_state_bytes) | (kind - TS_TAG_STATE > 1u) | (job->counter == 0u);
        token = ts_counted(token, TS_UPDATE_BY_DIFFERENCE);
        bad |= older(job->counter, state->floor);
    }
    token = ts_counted(token, TS_UPDATE_BY_DIFFERENCE);
    if (bad == 0 && kind == TS_TAG_STATE) {
        put_sequence(job, state->sequence);
        ts_update_code(job, code);
        for (uint32_t i = 0; i < TS_MAC_BYTES; ++i) {
            job->tag[4 + i] = code[i];
        }
    } else if (bad == 0) {
        ts_update_code(job, code);
        bad |= ts_macs_differ(code, job->tag + 4);
    }
    token = ts_counted(token, TS_UPDATE_BY_DIFFERENCE);
    forget(code);
    return ts_spoilt(token, bad);
}

TS_APART uint32_t ts_update_by_count(volatile ts_update_job *job, const ts_update_state *state)
{
    const uint32_t last = ~state->sequence_inverted, floor = ~state->floor_inverted;
    uint8_t code[TS_MAC_BYTES];
    uint32_t good = 0, same = 0;
    switch (job->kind) {
    case TS_TAG_STATE:
        put_sequence(job, last);
        /* fall through */
    case TS_CHECK_STATE:
        good += job->bytes == ts_update_state_bytes && job->counter != 0;
        good += floor == 0 || job->counter == floor || before(floor, job->counter) == 1u;
        break;
    case TS_CHECK_DELTA:
        good += job->bytes >= TS_DELTA_HEADER_BYTES && job->bytes <= ts_update_delta_bytes &&
                job->counter == 0;
        good += sequence_of(job) > last;
        break;
    default:
        return 0;
    }
    if (good != TS_UPDATE_CHECKS - 1) {
        return good;
    }
    ts_update_code(job, code);
    if (job->kind == TS_TAG_STATE) {
        for (uint32_t i = TS_MAC_BYTES; i > 0; --i) {
            job->tag[3 + i] = code[i - 1];
        }
    }
    for (uint32_t i = TS_MAC_BYTES; i > 0; --i) {
        same += code[i - 1] == job->tag[3 + i];
    }
    forget(code);
    good += same == TS_MAC_BYTES;
    return good * TS_UPDATE_BY_COUNT;
}

void ts_update_note(const volatile ts_update_job *one, const volatile ts_update_job *other,
                    ts_update_state *state)
{
    if (one->kind == TS_TAG_STATE) { /* what lies in both slots may still be needed */
        if (before(state->floor, one->in_force) != 0) {
            state->floor = one->in_force;
        }
    } else if (one->kind == TS_CHECK_STATE) {
        state->floor = one->counter;
    }
    if (sequence_of(one) > state->sequence) {
        state->sequence = sequence_of(one);
    }
    if (other->kind == TS_TAG_STATE) {
        if (before(~state->floor_inverted, other->in_force) != 0) {
            state->floor_inverted = ~other->in_force;
        }
    } else if (other->kind == TS_CHECK_STATE) {
        state->floor_inverted = ~other->counter;
    }
    if (sequence_of(other) > ~state->sequence_inverted) {
        state->sequence_inverted = ~sequence_of(other);
    }
}
