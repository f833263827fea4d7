/* The checks of the gateway, each in two forms, and the tokens that they return. */
#ifndef TS_GATEWAY_CHECKS_H
#define TS_GATEWAY_CHECKS_H

#include "ts_secure.h"

/* A function of its own: what the compiler knows of its callers does not merge the two forms. */
#define TS_APART __attribute__((noipa))

#define TS_NO_CALL 0xFFFFFFFFu

/* What the caller asks for, as words: each is taken twice, so that one that was not is noticed. */
typedef struct {
    uint32_t call, call_again;
    uint32_t request, request_again;
    uint32_t input[TS_GATEWAY_INPUTS], input_again[TS_GATEWAY_INPUTS];
    uint32_t output, output_again;
} ts_job;

/* next: the call that may follow, besides 0. used: calls since boot. busy: one is under way. */
typedef struct {
    volatile uint32_t next, next_inverted, used, used_inverted, busy, busy_inverted;
} ts_gateway_state;
#define TS_GATEWAY_CLOSED {0, ~0u, 0, ~0u, 0, ~0u}

/* Calls 0 and 1 ask something, and are counted; 1 goes on where 0 ended. An image whose layers learn
 * has two more, which seal what they have learnt and take it back (sealed.h). */
#ifdef TS_SECURE_SEALS
#define TS_GOES_ON(call) ((call) == 1u)
#define TS_COUNTED(call) ((call) < 2u)
#else
#define TS_GOES_ON(call) ((call) != 0u)
#define TS_COUNTED(call) 1u
#endif

/* A check that passes adds its family's step to the token; one that fails spoils it. */
#define TS_REQUEST_BY_HARDWARE 0x5D0E3A91u
#define TS_REQUEST_BY_TABLE 0xA3C94E17u
#define TS_POINTERS_BY_HARDWARE 0x1B7C5A3Du
#define TS_POINTERS_BY_TABLE 0x2E95D06Bu
#define TS_STATE_BY_VALUE 0x68F1B24Du
#define TS_STATE_BY_INVERSE 0x94A36E5Bu
enum { TS_POINTER_CHECKS = 5, TS_STATE_CHECKS = 3 }; /* and one for every input */

#define TS_PASSED(family, gate) ((family) * (TS_POINTER_CHECKS + (gate)->input_count))
#define TS_ONE_PASSED(gate) \
    (TS_PASSED(TS_POINTERS_BY_HARDWARE, gate) + TS_STATE_BY_VALUE * TS_STATE_CHECKS)
#define TS_OTHER_PASSED(gate) \
    (TS_PASSED(TS_POINTERS_BY_TABLE, gate) + TS_STATE_BY_INVERSE * TS_STATE_CHECKS)
#define TS_BOTH_PASSED(gate) (TS_ONE_PASSED(gate) + TS_OTHER_PASSED(gate))

/* The barrier keeps the compiler from adding up beforehand. */
static inline uint32_t ts_counted(uint32_t token, uint32_t step)
{
    token += step;
    __asm__ volatile("" : "+r"(token));
    return token;
}

/* token, or 0 where anything is bad: what two families are short of never adds up to nothing. */
static inline uint32_t ts_spoilt(uint32_t token, uint32_t bad)
{
    return token & (((bad | (0u - bad)) >> 31) - 1u);
}

/* 0 where the other world may read, or write, all of it (checks.c). flags: of cmse.h. */
uint32_t ts_refused_by_hardware(uint32_t address, uint32_t bytes, uint32_t alignment, int flags);
uint32_t ts_refused_by_table(uint32_t address, uint32_t bytes, uint32_t alignment,
                             uint32_t writable);

void *ts_copy(void *to, const void *from, uint32_t bytes); /* returns the end of what it wrote */
void ts_wipe(volatile void *data, uint32_t bytes); /* bytes: a multiple of 4 */

uint32_t ts_request_by_hardware(const volatile ts_job *job);
uint32_t ts_request_by_table(const volatile ts_job *job);
uint32_t ts_pointers_by_hardware(const volatile ts_job *job, const ts_gate *gate);
uint32_t ts_pointers_by_table(const volatile ts_job *job, const ts_gate *gate);
uint32_t ts_state_by_value(const volatile ts_job *job, const ts_gateway_state *state);
uint32_t ts_state_by_inverse(const volatile ts_job *job, const ts_gateway_state *state);

/* The pad of the query under way; gateway_binding.c. */
extern uint32_t ts_pad[];
extern const uint32_t ts_pad_bytes;

#endif
