/* What a protected model has learnt, and what changes it: made authentic by the secure world, as
 * both worlds see it (docs/trust.md). A tag binds bytes to this device, this model and a counter. */
#ifndef TS_UPDATE_H
#define TS_UPDATE_H

#include <stdint.h>

#include "tinsmith/ts_store.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ts_update_kind {
    TS_TAG_STATE = 1,   /* makes the tag of a state that is about to be committed */
    TS_CHECK_STATE = 2, /* of a state that was read back */
    TS_CHECK_DELTA = 3  /* of a delta, which is then used up: it is accepted once per boot */
} ts_update_kind;

/* kind: a ts_update_kind. counter: of the block in the store, 0 for a delta. in_force: of the block
 * that the store relies on while another is written; 0 without. data: `bytes` bytes, the state's
 * stored ones or a delta without its tag. tag: TS_TAG_BYTES bytes (ts_store.h), little-endian:
 * the sequence of a delta, or the last one that the device took, u32; HMAC-SHA256 [32] over
 *
 *     "tinsmith update 1" and a zero, base hash [32], kind, counter, bytes, sequence u32, data
 *
 * where the kind is the one that checks it. */
typedef struct ts_update_request {
    uint32_t kind, counter, in_force, bytes;
    const void *data;
    void *tag;
} ts_update_request;

/* TS_UPDATE_DONE(kind): the tag was written, or it is right. Anything else: nothing was written, or
 * the bytes are not to be used: they were changed, are of another device or model, older than what
 * this boot has relied on, or a delta that is not newer than the last. */
uint32_t ts_update(const ts_update_request *request);
#define TS_UPDATE_DONE(kind) (0x2C6AD395u + 0x11735F21u * (uint32_t)(kind))

#ifdef __cplusplus
}
#endif

#endif
