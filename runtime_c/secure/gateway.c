/* The gateway: decides about a call, computes it, wipes what it left.
 *
 * No single instruction that a glitch skips may turn a refusal into an answer. So every check is
 * made twice, in different forms: by the hardware (TT) and by value, by the board's table and by
 * inverse. Each form counts its checks into a token, and only the sum of both right tokens opens
 * the computation and, again, the copy of the answer. Where the forms disagree, a check was
 * disturbed: the secure world gives up. tests/test_trust_skip.py skips every instruction. */
#include <stddef.h>

#include "gateway.h"

static ts_gateway_state state = TS_GATEWAY_CLOSED;

static ts_status refuse_to_run(void)
{
    return TS_REFUSED;
}

static const ts_gate no_gate = {.call = TS_NO_CALL, .init = refuse_to_run, .run = refuse_to_run};

static const ts_gate *gate_of(uint32_t call)
{
    return call < ts_gate_count ? &ts_gates[call] : &no_gate;
}

TS_APART void *ts_copy(void *to, const void *from, uint32_t bytes)
{
    uint8_t *y = to;
    const uint8_t *x = from;
    if ((((uintptr_t)to | (uintptr_t)from) & 3u) == 0) {
        for (; bytes >= 64; bytes -= 64) {
            __asm__ volatile("ldmia %0!, {r3-r6}\n\tstmia %1!, {r3-r6}\n\t"
                             "ldmia %0!, {r3-r6}\n\tstmia %1!, {r3-r6}\n\t"
                             "ldmia %0!, {r3-r6}\n\tstmia %1!, {r3-r6}\n\t"
                             "ldmia %0!, {r3-r6}\n\tstmia %1!, {r3-r6}"
                             : "+r"(x), "+r"(y)::"r3", "r4", "r5", "r6", "memory");
        }
        for (; bytes >= 4; bytes -= 4, x += 4, y += 4) {
            *(uint32_t *)(uintptr_t)y = *(const uint32_t *)(uintptr_t)x;
        }
    }
    for (; bytes > 0; --bytes) {
        *y++ = *x++;
    }
    return y;
}

/* bytes: a multiple of 4. */
TS_APART void ts_wipe(volatile void *data, uint32_t bytes)
{
    volatile uint32_t *word = data;
    volatile uint32_t *const end = word + bytes / 4u;
    while ((uintptr_t)end - (uintptr_t)word >= 64) {
        __asm__ volatile("movs r3, #0\n\tmovs r4, #0\n\tmovs r5, #0\n\tmovs r6, #0\n\t"
                         "stmia %0!, {r3-r6}\n\tstmia %0!, {r3-r6}\n\t"
                         "stmia %0!, {r3-r6}\n\tstmia %0!, {r3-r6}"
                         : "+r"(word)::"r3", "r4", "r5", "r6", "cc", "memory");
    }
    for (; word < end; ++word) {
        *word = 0;
    }
}

/* The request's address was checked in both forms; what it holds is not yet. */
TS_APART void ts_take_request(volatile ts_job *job)
{
    const volatile uint32_t *const from = (const volatile uint32_t *)(uintptr_t)job->request;
    for (uint32_t i = 0; i < TS_GATEWAY_INPUTS; ++i) {
        job->input[i] = from[i];
    }
    job->output = from[TS_GATEWAY_INPUTS];
}

TS_APART void ts_take_again(volatile ts_job *job)
{
    const volatile uint32_t *const from = (const volatile uint32_t *)(uintptr_t)job->request_again;
    job->output_again = from[TS_GATEWAY_INPUTS];
    for (uint32_t i = TS_GATEWAY_INPUTS; i > 0; --i) {
        job->input_again[i - 1] = from[i - 1];
    }
}

/* No call, and no address of the caller's: what is then not set is refused. Without a loop, which
 * could go on for ever. */
TS_APART void ts_spoil(volatile ts_job *job)
{
    job->call = TS_NO_CALL, job->call_again = TS_NO_CALL;
    job->request = TS_NO_CALL, job->request_again = TS_NO_CALL;
    job->input[0] = TS_NO_CALL, job->input_again[0] = TS_NO_CALL;
    job->input[1] = TS_NO_CALL, job->input_again[1] = TS_NO_CALL;
    job->input[2] = TS_NO_CALL, job->input_again[2] = TS_NO_CALL;
    job->output = TS_NO_CALL, job->output_again = TS_NO_CALL;
}
_Static_assert(TS_GATEWAY_INPUTS == 3, "ts_spoil names every input");

/* A call from an interrupt of the other world must not come between a look at the state and its
 * change. AIRCR.PRIS is set: the secure PRIMASK holds back every interrupt. */
static inline void hold_interrupts(void)
{
    __asm__ volatile("cpsid i" ::: "memory");
}

static inline void let_interrupts(void)
{
    __asm__ volatile("cpsie i" ::: "memory");
}

/* A query is counted and the order forgotten before anything is computed. */
static void begin(const volatile ts_job *job)
{
    (void)job; /* where every call is counted */
    state.busy = 1;
    state.busy_inverted = ~1u;
    state.next = 0;
    state.next_inverted = ~0u;
    state.used = state.used + TS_COUNTED(job->call);
    state.used_inverted = state.used_inverted - TS_COUNTED(job->call_again);
}

static void finish(const ts_gate *gate, uint32_t token)
{
    const uint32_t following = gate->call + 1u;
    ts_wipe(ts_secure_arena, ts_secure_arena_bytes);
    if (gate->call != 0 || following == ts_gate_count || token == 0) {
        ts_wipe(ts_pad, ts_pad_bytes);
    }
    hold_interrupts();
    if (token != 0 && following < ts_gate_count) {
        state.next = following;
        state.next_inverted = ~following;
    }
    state.busy = 0;
    state.busy_inverted = ~0u;
    let_interrupts();
}

static ts_status load_inputs(const volatile ts_job *job, const ts_gate *gate)
{
    const ts_status status = gate->init();
    if (status != TS_OK) {
        return status;
    }
    for (uint32_t i = 0; i < gate->input_count; ++i) {
        ts_copy(gate->input(i), (const void *)(uintptr_t)job->input[i], gate->input_bytes[i]);
    }
    if (gate->pad_bytes > 0) {
        if (gate->draw_pad != NULL && !gate->draw_pad(ts_pad, gate->pad_bytes)) {
            return TS_REFUSED;
        }
        ts_copy(gate->pad(), ts_pad, gate->pad_bytes);
    }
    return TS_OK;
}

/* The only place where an answer leaves. Returns the token, if all of the answer went out. */
TS_APART uint32_t ts_release(const volatile ts_job *job, const ts_gate *gate, uint32_t token)
{
    if (token != TS_BOTH_PASSED(gate)) {
        ts_give_up(TS_GLITCH);
    }
    const uint32_t again = ts_pointers_by_table(job, gate);
    if (again != TS_PASSED(TS_POINTERS_BY_TABLE, gate)) {
        ts_give_up(TS_GLITCH);
    }
    if (token + again != TS_BOTH_PASSED(gate) + TS_PASSED(TS_POINTERS_BY_TABLE, gate)) {
        ts_give_up(TS_GLITCH);
    }
    const void *const end =
        ts_copy((void *)(uintptr_t)job->output, gate->output(), gate->output_bytes);
    return token + ((uint32_t)(uintptr_t)end - job->output_again - gate->output_bytes);
}

/* The word that stands for an answer comes from the token alone: without it there is none. */
TS_APART uint32_t ts_compute(const volatile ts_job *job, const ts_gate *gate, uint32_t token)
{
    if (token != TS_BOTH_PASSED(gate)) {
        ts_give_up(TS_GLITCH);
    }
    begin(job);
    let_interrupts();
    uint32_t held = 0;
    ts_status status = load_inputs(job, gate);
    if (status == TS_OK) {
        status = gate->run();
    }
    if (status == TS_OK) {
        held = ts_release(job, gate, token);
    }
    finish(gate, held);
    return status != TS_OK ? (uint32_t)status
                           : TS_ANSWERED(job->call_again) + (held - TS_BOTH_PASSED(gate));
}

/* call, request: twice, as all of the job. */
TS_APART uint32_t ts_serve(uint32_t call, uint32_t request, uint32_t call_again,
                           uint32_t request_again)
{
    volatile ts_job job;
    ts_spoil(&job);
    job.call = call;
    job.call_again = call_again;
    job.request = request;
    job.request_again = request_again;
    const ts_gate *const gate = gate_of(call);
    if (ts_request_by_hardware(&job) == TS_REQUEST_BY_HARDWARE &&
        ts_request_by_table(&job) == TS_REQUEST_BY_TABLE) {
        ts_take_request(&job);
        ts_take_again(&job);
    }
    uint32_t one = ts_pointers_by_hardware(&job, gate);
    uint32_t other = ts_pointers_by_table(&job, gate);
    hold_interrupts();
    one += ts_state_by_value(&job, &state);
    other += ts_state_by_inverse(&job, &state);
    uint32_t answer = TS_REFUSED;
    const uint32_t passed = (one == TS_ONE_PASSED(gate)) + (other == TS_OTHER_PASSED(gate)) * 2u;
    if (passed == 3u) {
        answer = ts_compute(&job, gate, one + other);
    } else if (passed != 0u) {
        ts_give_up(TS_GLITCH);
    }
    let_interrupts();
    ts_wipe(&job, sizeof job);
    return answer;
}

__attribute__((cmse_nonsecure_entry)) uint32_t ts_gateway_call(uint32_t call,
                                                               const ts_gateway_request *request)
{
    const uint32_t address = (uint32_t)(uintptr_t)request;
    return ts_serve(call, address, call, address);
}
