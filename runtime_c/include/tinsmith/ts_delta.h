/* What a model has learnt, as a patch of the state it came with: small, check-summed, and bound to
 * that model. The twin of train/delta.py, byte for byte. Numbers are little-endian:
 *
 *     magic u32, version u32, base hash [32], counter u32, length of the state u32,
 *     bytes of the tokens u32, CRC-32 of the patched state u32, tokens, CRC-32 of all before u32
 *
 * Tokens give the differences new - base (mod 256) of the state's bytes in order. The first byte of
 * a token has its kind in the upper two bits and n in the others:
 *
 *     00  n + 1 differences are 0
 *     01  n + 1 differences follow, a byte each
 *     10  n + 1 differences follow, a nibble each (-8 ... 7), the lower first; a last half is 0
 *     11  65 + (256 n + the next byte) differences are 0
 *
 * The check sums protect against accidents only: authenticate a delta before it is applied. */
#ifndef TS_DELTA_H
#define TS_DELTA_H

#include <stdint.h>

#include "tinsmith/ts_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TS_DELTA_VERSION 1u
#define TS_DELTA_HEADER_BYTES 56u

/* The most that a delta of a state of `length` bytes takes. */
#define TS_DELTA_MAX_BYTES(length) ((length) + (length) / 64u + 64u)

/* A piece of a block of bytes: `bytes` bytes from `start`, at `offset` of the block; NULL: zeros.
 * The bytes between pieces are zeros, too. */
typedef struct ts_piece {
    const void *start;
    uint32_t offset;
    uint32_t bytes;
} ts_piece;

/* The state that a model comes with. base_hash: TS_BASE_HASH_BYTES bytes (ts_store.h). pieces: by
 * rising offset, without overlap, inside `length` bytes. */
typedef struct ts_base {
    const uint8_t *base_hash;
    const ts_piece *pieces;
    uint32_t piece_count;
    uint32_t length;
} ts_base;

/* Writes the base's state to `state`. */
void ts_base_copy(const ts_base *base, void *state);

/* Writes the delta from the base to `state` into `buffer`; *written: its bytes. `counter` goes with
 * it, for whoever keeps deltas in order. TS_BUFFER_TOO_SMALL when it needs more than `capacity`. */
ts_status ts_delta_export(const ts_base *base, const void *state, uint32_t counter, void *buffer,
                          uint32_t capacity, uint32_t *written);

/* Sets `state` to the base with the delta applied, whatever it held. Everything is checked before
 * the first byte is written: after TS_DELTA_DAMAGED or TS_DELTA_FOREIGN `state` is as it was.
 * counter: that of the export; may be NULL. `delta` and `state` do not overlap. */
ts_status ts_delta_apply(const ts_base *base, const void *delta, uint32_t bytes, void *state,
                         uint32_t *counter);

#ifdef __cplusplus
}
#endif

#endif
