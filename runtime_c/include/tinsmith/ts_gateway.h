/* The door from the non-secure world into the secure one, as both see it (docs/trust.md). */
#ifndef TS_GATEWAY_H
#define TS_GATEWAY_H

#include <stdint.h>

#include "tinsmith/ts_status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TS_GATEWAY_INPUTS = 3 };

/* Where the caller's tensors lie: aligned to their elements, in non-secure memory. Their sizes are
 * the secure image's own knowledge. Inputs that a call does not have are ignored. */
typedef struct ts_gateway_request {
    const void *input[TS_GATEWAY_INPUTS];
    void *output;
} ts_gateway_request;

/* The door itself. TS_ANSWERED(call) when all of the output was written; a status of ts_status.h,
 * or any other word, when it was not. */
uint32_t ts_gateway_call(uint32_t call, const ts_gateway_request *request);
#define TS_ANSWERED(call) (0x5AC3961Eu + 0x0E4D2B71u * (call))

/* Computes call number `call` of this image's model. TS_OK: the output is written.
 * TS_REFUSED: nothing is. The secure world refuses a call that it does not know or that is not
 * next, a pointer that is not into non-secure memory, a call from within a call, a query beyond the
 * quota, and a pad when it has no entropy. */
static inline ts_status ts_gateway(uint32_t call, const ts_gateway_request *request)
{
    enum { STATUSES = 32 };
    const uint32_t answer = ts_gateway_call(call, request);
    if (answer == TS_ANSWERED(call)) {
        return TS_OK;
    }
    return answer - 1u < STATUSES ? (ts_status)answer : TS_REFUSED;
}

#ifdef __cplusplus
}
#endif

#endif
