/* Whether a call may be answered, in two forms that share no code (gateway.c says why).
 * `bad` collects what is wrong, `token` that each check was made. */
#include <arm_cmse.h>

#include "gateway.h"

/* 0 where the caller itself could read, or write, all of it, and it is one of its memories: regions
 * 0 and 1 of the SAU are its flash and its RAM (zone.c). */
TS_APART uint32_t ts_refused_by_hardware(uint32_t address, uint32_t bytes, uint32_t alignment,
                                         int flags)
{
    void *const start = (void *)(uintptr_t)address;
    const void *const found = cmse_check_address_range(start, bytes, flags | CMSE_NONSECURE);
    const cmse_address_info_t info = cmse_TTA(start);
    const uint32_t misplaced = (uint32_t)(uintptr_t)found ^ address;
    const uint32_t writes = flags == CMSE_MPU_READWRITE;
    const uint32_t elsewhere = (uint32_t)info.flags.sau_region_valid ^ 1u;
    const uint32_t memory = (uint32_t)info.flags.sau_region;
    return (found == NULL) | misplaced | elsewhere | (memory > 1u) | (writes & (memory ^ 1u)) |
           (address & (alignment - 1u));
}

/* 0 where it lies in one of the memories that the board's table gives the other world. */
TS_APART uint32_t ts_refused_by_table(uint32_t address, uint32_t bytes, uint32_t alignment,
                                      uint32_t writable)
{
    const ts_range *const ram = &ts_trust_zone.ram;
    const ts_range *const flash = &ts_trust_zone.flash;
    const ts_range *memory = ram;
    if (!writable && address - flash->start < flash->end - flash->start) {
        memory = flash;
    }
    const uint32_t size = memory->end - memory->start;
    const uint32_t offset = address - memory->start;
    if (offset >= size || bytes > size - offset) {
        return 1;
    }
    return address % alignment;
}

uint32_t ts_request_by_hardware(const volatile ts_job *job)
{
    const uint32_t bad = ts_refused_by_hardware(job->request, sizeof(ts_gateway_request),
                                                sizeof(uint32_t), CMSE_MPU_READ);
    return ts_spoilt(TS_REQUEST_BY_HARDWARE, bad);
}

uint32_t ts_request_by_table(const volatile ts_job *job)
{
    const uint32_t bad = ts_refused_by_table(job->request_again, sizeof(ts_gateway_request),
                                             sizeof(uint32_t), 0);
    return ts_spoilt(TS_REQUEST_BY_TABLE, bad);
}

TS_APART uint32_t ts_pointers_by_hardware(const volatile ts_job *job, const ts_gate *gate)
{
    uint32_t bad = 0, token = 0;
    bad |= job->call ^ gate->call;
    token = ts_counted(token, TS_POINTERS_BY_HARDWARE);
    bad |= job->call ^ job->call_again;
    token = ts_counted(token, TS_POINTERS_BY_HARDWARE);
    bad |= job->request ^ job->request_again;
    token = ts_counted(token, TS_POINTERS_BY_HARDWARE);
    bad |= ts_request_by_hardware(job) ^ TS_REQUEST_BY_HARDWARE;
    token = ts_counted(token, TS_POINTERS_BY_HARDWARE);
    bad |= job->output ^ job->output_again;
    bad |= ts_refused_by_hardware(job->output, gate->output_bytes, gate->output_alignment,
                                  CMSE_MPU_READWRITE);
    token = ts_counted(token, TS_POINTERS_BY_HARDWARE);
    for (uint32_t i = 0; i < gate->input_count; ++i) {
        bad |= job->input[i] ^ job->input_again[i];
        bad |= ts_refused_by_hardware(job->input[i], gate->input_bytes[i],
                                      gate->input_alignment[i], CMSE_MPU_READ);
        token = ts_counted(token, TS_POINTERS_BY_HARDWARE);
    }
    return ts_spoilt(token, bad);
}

TS_APART uint32_t ts_pointers_by_table(const volatile ts_job *job, const ts_gate *gate)
{
    uint32_t good = 0;
    for (uint32_t i = gate->input_count; i > 0; --i) {
        const uint32_t address = job->input_again[i - 1];
        good += ts_refused_by_table(address, gate->input_bytes[i - 1],
                                    gate->input_alignment[i - 1], 0) == 0 &&
                address == job->input[i - 1];
    }
    const uint32_t output = job->output_again;
    good += ts_refused_by_table(output, gate->output_bytes, gate->output_alignment, 1) == 0 &&
            output == job->output;
    good += ts_request_by_table(job) == TS_REQUEST_BY_TABLE;
    good += job->request_again == job->request;
    good += job->call_again == job->call;
    good += job->call_again < ts_gate_count && gate == &ts_gates[job->call_again];
    return good * TS_POINTERS_BY_TABLE;
}

TS_APART uint32_t ts_state_by_value(const volatile ts_job *job, const ts_gateway_state *state)
{
    const uint32_t call = job->call, quota = ts_call_quota;
    uint32_t bad = 0, token = 0;
    bad |= TS_GOES_ON(call) & (call != state->next);
    token = ts_counted(token, TS_STATE_BY_VALUE);
    bad |= (quota != TS_NO_QUOTA) & (state->used >= quota) & TS_COUNTED(call);
    token = ts_counted(token, TS_STATE_BY_VALUE);
    bad |= state->busy;
    token = ts_counted(token, TS_STATE_BY_VALUE);
    return ts_spoilt(token, bad);
}

TS_APART uint32_t ts_state_by_inverse(const volatile ts_job *job, const ts_gateway_state *state)
{
    const uint32_t call = ~job->call_again, quota = ts_call_quota_inverted;
    uint32_t good = 0;
    good += ~state->busy_inverted == 0u;
    good += quota == ~TS_NO_QUOTA || state->used_inverted > quota || !TS_COUNTED(~call);
    good += !TS_GOES_ON(~call) || call == state->next_inverted;
    return good * TS_STATE_BY_INVERSE;
}
