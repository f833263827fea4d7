/* stdin: `record`s and their blocks → stdout: what ts_delta made of them.
 * operation 0, export: the state's delta, at most `capacity` bytes; 1, apply: the delta to the state.
 * The base is cut into `pieces` of equal length; those that are zeros have no start. Every block is
 * allocated at its exact size, so that a sanitizer sees a byte too far. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tinsmith/ts_delta.h"
#include "tinsmith/ts_store.h"

enum { EXPORT, APPLY };

typedef struct {
    uint32_t operation, length, pieces, counter, capacity, delta_bytes;
} record;

static uint8_t *read_bytes(uint32_t bytes)
{
    uint8_t *data = malloc(bytes);
    if (data == NULL || fread(data, 1, bytes, stdin) != bytes) {
        exit(3);
    }
    return data;
}

static void write_u32(uint32_t v)
{
    fwrite(&v, sizeof v, 1, stdout);
}

static ts_piece *cut(const uint8_t *block, const record *r)
{
    ts_piece *pieces = calloc(r->pieces, sizeof *pieces);
    for (uint32_t i = 0; i < r->pieces; ++i) {
        const uint32_t from = r->length * i / r->pieces, to = r->length * (i + 1) / r->pieces;
        int zero = 1;
        for (uint32_t at = from; at < to; ++at) {
            zero &= block[at] == 0;
        }
        pieces[i] = (ts_piece){zero ? NULL : block + from, from, to - from};
    }
    return pieces;
}

static void run(const record *r)
{
    uint8_t *hash = read_bytes(TS_BASE_HASH_BYTES);
    uint8_t *block = read_bytes(r->length), *state = read_bytes(r->length);
    ts_piece *pieces = cut(block, r);
    const ts_base base = {hash, pieces, r->pieces, r->length};
    if (r->operation == EXPORT) {
        uint8_t *buffer = malloc(r->capacity + 1);
        uint32_t written = 0;
        write_u32(ts_delta_export(&base, state, r->counter, buffer, r->capacity, &written));
        write_u32(written);
        fwrite(buffer, 1, written, stdout);
        free(buffer);
    } else {
        uint8_t *delta = read_bytes(r->delta_bytes);
        uint32_t counter = 0;
        write_u32(ts_delta_apply(&base, delta, r->delta_bytes, state, &counter));
        write_u32(counter);
        fwrite(state, 1, r->length, stdout);
        ts_base_copy(&base, state);
        if (memcmp(state, block, r->length) != 0) {
            exit(4);
        }
        free(delta);
    }
    free(pieces);
    free(hash);
    free(block);
    free(state);
}

int main(void)
{
    record r;
    while (fread(&r, sizeof r, 1, stdin) == 1) {
        run(&r);
    }
    return 0;
}
