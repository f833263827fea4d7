/* The door for updates: takes a request twice, decides in two forms, answers with a word that only
 * both right tokens and a finished copy add up to. */
#include <arm_cmse.h>
#include <stddef.h>

#include "update.h"

static ts_update_state update_state = TS_UPDATE_STATE_AT_BOOT;
static volatile uint32_t updating;

#define PLACE_BY_HARDWARE 0x516B93E1u
#define PLACE_BY_TABLE 0x8E2D47B5u
#define ONE_PASSED (PLACE_BY_HARDWARE + TS_UPDATE_CHECKS * TS_UPDATE_BY_DIFFERENCE)
#define OTHER_PASSED (PLACE_BY_TABLE + TS_UPDATE_CHECKS * TS_UPDATE_BY_COUNT)
#define NOTHING 0u /* no request has this answer */

_Static_assert(sizeof(ts_update_job) % 4 == 0, "a job is wiped by words");

static uint32_t word_of(uint32_t request, uint32_t index)
{
    return ((const volatile uint32_t *)(uintptr_t)request)[index];
}

TS_APART void ts_update_take(volatile ts_update_job *job, uint32_t request)
{
    job->kind = word_of(request, 0);
    job->counter = word_of(request, 1);
    job->in_force = word_of(request, 2);
    job->bytes = word_of(request, 3);
    job->data = word_of(request, 4);
    job->tag_at = word_of(request, 5);
}

static void take_tag(volatile ts_update_job *job)
{
    const volatile uint8_t *const from = (const volatile uint8_t *)job->tag_at;
    for (uint32_t i = 0; i < TS_TAG_BYTES; ++i) {
        job->tag[i] = from[i];
    }
}

TS_APART uint32_t ts_update_place_by_hardware(uint32_t request, volatile ts_update_job *job)
{
    uint32_t bad = ts_refused_by_hardware(request, sizeof(ts_update_request), 4, CMSE_MPU_READ);
    if (bad == 0) {
        ts_update_take(job, request);
        const int access = job->kind == TS_TAG_STATE ? CMSE_MPU_READWRITE : CMSE_MPU_READ;
        bad |= (job->bytes == 0u) | (job->bytes > 0x00FFFFFFu);
        bad |= ts_refused_by_hardware(job->data, job->bytes, 1, CMSE_MPU_READ);
        bad |= ts_refused_by_hardware(job->tag_at, TS_TAG_BYTES, 1, access);
    }
    if (bad == 0) {
        take_tag(job);
    }
    return ts_spoilt(ts_counted(0, PLACE_BY_HARDWARE), bad);
}

TS_APART uint32_t ts_update_place_by_table(uint32_t request, volatile ts_update_job *job)
{
    uint32_t good = ts_refused_by_table(request, sizeof(ts_update_request), 4, 0) == 0;
    if (good == 1) {
        ts_update_take(job, request);
        const uint32_t bytes = job->bytes;
        good += bytes != 0 && bytes <= 0x00FFFFFFu;
        good += ts_refused_by_table(job->tag_at, TS_TAG_BYTES, 1, job->kind == TS_TAG_STATE) == 0;
        good += ts_refused_by_table(job->data, bytes, 1, 0) == 0;
    }
    if (good == 4) {
        take_tag(job);
        return PLACE_BY_TABLE;
    }
    return good;
}

/* 0 where both jobs, tags included, are the same. */
static uint32_t jobs_differ(const volatile ts_update_job *one, const volatile ts_update_job *other)
{
    uint32_t difference = (one->kind ^ other->kind) | (one->counter ^ other->counter);
    difference |= (one->in_force ^ other->in_force) | (one->bytes ^ other->bytes);
    difference |= (one->data ^ other->data) | (one->tag_at ^ other->tag_at);
    for (uint32_t i = 0; i < TS_TAG_BYTES; ++i) {
        difference |= (uint32_t)(one->tag[i] ^ other->tag[i]);
    }
    return difference;
}

/* The only place where an answer, or a tag, leaves. */
TS_APART uint32_t ts_update_finish(const volatile ts_update_job *one,
                                   const volatile ts_update_job *other, uint32_t first,
                                   uint32_t second)
{
    if (first + second != ONE_PASSED + OTHER_PASSED || jobs_differ(one, other) != 0) {
        ts_give_up(TS_GLITCH);
    }
    uint32_t copied = 0;
    if (one->kind == TS_TAG_STATE) {
        if (ts_refused_by_table(other->tag_at, TS_TAG_BYTES, 1, 1) != 0) {
            ts_give_up(TS_GLITCH);
        }
        volatile uint8_t *const to = (volatile uint8_t *)one->tag_at;
        for (; copied < TS_TAG_BYTES; ++copied) {
            to[copied] = one->tag[copied];
        }
    } else {
        copied = TS_TAG_BYTES;
    }
    ts_update_note(one, other, &update_state);
    return TS_UPDATE_DONE(other->kind) + (first - ONE_PASSED) + (second - OTHER_PASSED) +
           (copied - TS_TAG_BYTES) + jobs_differ(one, other);
}

/* request: twice. */
TS_APART uint32_t ts_update_serve(uint32_t request, uint32_t request_again)
{
    volatile ts_update_job one, other;
    uint32_t answer = NOTHING;
    ts_wipe(&one, sizeof one);
    ts_wipe(&other, sizeof other);
    uint32_t first = ts_update_place_by_hardware(request, &one);
    uint32_t second = ts_update_place_by_table(request_again, &other);
    if (first == PLACE_BY_HARDWARE && second == PLACE_BY_TABLE) {
        first += ts_update_by_difference(&one, &update_state);
        second += ts_update_by_count(&other, &update_state);
    }
    const uint32_t passed = (first == ONE_PASSED) + (second == OTHER_PASSED) * 2u;
    if (passed == 3u) {
        answer = ts_update_finish(&one, &other, first, second);
    } else if (passed != 0u) {
        ts_give_up(TS_GLITCH);
    }
    ts_wipe(&one, sizeof one);
    ts_wipe(&other, sizeof other);
    return answer;
}

/* An interrupt's call from within a call would look at a state that is about to change. */
static uint32_t begin(void)
{
    __asm__ volatile("cpsid i" ::: "memory");
    const uint32_t was = updating;
    updating = 1;
    __asm__ volatile("cpsie i" ::: "memory");
    return was;
}

__attribute__((cmse_nonsecure_entry)) uint32_t ts_update(const ts_update_request *request)
{
    const uint32_t address = (uint32_t)(uintptr_t)request;
    if (begin() != 0) {
        return NOTHING;
    }
    const uint32_t answer = ts_update_serve(address, address);
    updating = 0;
    return answer;
}
