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

/* Computes call number `call` of this image's model. TS_OK: the output is written.
 * TS_REFUSED: nothing is. The secure world refuses a call that it does not know or that is not
 * next, a pointer that is not into non-secure memory, a call from within a call, a query beyond the
 * quota, and a pad when it has no entropy. */
ts_status ts_gateway(uint32_t call, const ts_gateway_request *request);

#ifdef __cplusplus
}
#endif

#endif
