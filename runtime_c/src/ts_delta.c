#include "tinsmith/ts_delta.h"

#include <stddef.h>
#include <string.h>

#include "tinsmith/ts_bytes.h"
#include "tinsmith/ts_crc32.h"
#include "tinsmith/ts_store.h"

enum {
    BASE_HASH_AT = 8,
    COUNTER_AT = 40,
    LENGTH_AT = 44,
    TOKEN_BYTES_AT = 48,
    STATE_CRC_AT = 52,
    CRC_BYTES = 4,
    WINDOW = 64,
    LONGEST_ZEROS = 65 + 0x3fff,
    KIND_ZEROS = 0x00,
    KIND_BYTES = 0x40,
    KIND_NIBBLES = 0x80,
    KIND_MANY_ZEROS = 0xc0,
    KINDS = 0xc0,
    LEAST_NIBBLES = 4, /* a run as short as this is not longer than its bytes */
    WORTH_ZEROS = 3,   /* runs that end a run of bytes: worth the two tokens that they cost */
    WORTH_NIBBLES = 6,
    WORTH_ZEROS_IN_NIBBLES = 4
};

#define MAGIC 0x4c445354u /* "TSDL" */

/* A place in the base, from which on its bytes are read in order. */
typedef struct {
    const ts_base *base;
    uint32_t at;
    uint32_t piece;
} cursor;

static uint8_t next_base(cursor *c)
{
    const ts_piece *pieces = c->base->pieces;
    const uint32_t at = c->at++;
    while (c->piece < c->base->piece_count &&
           at >= pieces[c->piece].offset + pieces[c->piece].bytes) {
        ++c->piece;
    }
    if (c->piece == c->base->piece_count || at < pieces[c->piece].offset ||
        pieces[c->piece].start == NULL) {
        return 0;
    }
    return ((const uint8_t *)pieces[c->piece].start)[at - pieces[c->piece].offset];
}

void ts_base_copy(const ts_base *base, void *state)
{
    uint8_t *to = (uint8_t *)state;
    memset(to, 0, base->length);
    for (uint32_t i = 0; i < base->piece_count; ++i) {
        const ts_piece *piece = &base->pieces[i];
        if (piece->start != NULL) {
            memcpy(to + piece->offset, piece->start, piece->bytes);
        }
    }
}

static uint32_t zeros(const uint8_t *d, uint32_t count)
{
    uint32_t n = 0;
    while (n < count && d[n] == 0) {
        ++n;
    }
    return n;
}

/* How many differences from here on go well as nibbles. */
static uint32_t nibbles(const uint8_t *d, uint32_t count)
{
    uint32_t n = 0;
    while (n < count && (uint8_t)(d[n] + 8u) < 16u &&
           zeros(d + n, count - n) < WORTH_ZEROS_IN_NIBBLES) {
        ++n;
    }
    return n;
}

static uint32_t single_bytes(const uint8_t *d, uint32_t count)
{
    uint32_t n = 1;
    while (n < count && zeros(d + n, count - n) < WORTH_ZEROS &&
           nibbles(d + n, count - n) < WORTH_NIBBLES) {
        ++n;
    }
    return n;
}

typedef struct {
    uint8_t *to;
    uint32_t capacity;
    uint32_t bytes; /* beyond the capacity, only counted */
} sink;

static void put(sink *out, uint32_t byte)
{
    if (out->bytes < out->capacity) {
        out->to[out->bytes] = (uint8_t)byte;
    }
    out->bytes += 1;
}

static void put_zeros(sink *out, uint32_t count)
{
    if (count <= WINDOW) {
        put(out, KIND_ZEROS | (count - 1));
    } else {
        put(out, KIND_MANY_ZEROS | (count - 65) >> 8);
        put(out, (count - 65) & 0xffu);
    }
}

/* One token for the differences at the start of the window; returns how many it takes. */
static uint32_t put_token(sink *out, const uint8_t *d, uint32_t count)
{
    uint32_t n = nibbles(d, count);
    if (n >= LEAST_NIBBLES) {
        put(out, KIND_NIBBLES | (n - 1));
        for (uint32_t i = 0; i < n; i += 2) {
            put(out, (d[i] & 15u) | (i + 1 < n ? (d[i + 1] & 15u) << 4 : 0u));
        }
        return n;
    }
    n = single_bytes(d, count);
    put(out, KIND_BYTES | (n - 1));
    for (uint32_t i = 0; i < n; ++i) {
        put(out, d[i]);
    }
    return n;
}

static void put_tokens(const ts_base *base, const uint8_t *state, sink *out)
{
    cursor here = {base, 0, 0};
    while (here.at < base->length) {
        uint8_t window[WINDOW];
        uint32_t count = 0;
        cursor ahead = here;
        while (count < WINDOW && ahead.at < base->length) {
            const uint8_t byte = state[ahead.at];
            window[count++] = (uint8_t)(byte - next_base(&ahead));
        }
        uint32_t n = zeros(window, count);
        if (n == WINDOW) {
            cursor look = ahead;
            while (n < LONGEST_ZEROS && ahead.at < base->length &&
                   state[ahead.at] == next_base(&look)) {
                ahead = look;
                ++n;
            }
        }
        if (n >= WORTH_ZEROS || n == count) {
            put_zeros(out, n);
        } else {
            n = put_token(out, window, count);
        }
        for (uint32_t i = 0; i < n; ++i) {
            (void)next_base(&here);
        }
    }
}

ts_status ts_delta_export(const ts_base *base, const void *state, uint32_t counter, void *buffer,
                          uint32_t capacity, uint32_t *written)
{
    if (base == NULL || state == NULL || buffer == NULL || written == NULL) {
        return TS_BAD_ARGUMENT;
    }
    *written = 0;
    if (capacity < TS_DELTA_HEADER_BYTES + CRC_BYTES) {
        return TS_BUFFER_TOO_SMALL;
    }
    uint8_t *header = (uint8_t *)buffer;
    sink out = {header + TS_DELTA_HEADER_BYTES, capacity - TS_DELTA_HEADER_BYTES - CRC_BYTES, 0};
    put_tokens(base, (const uint8_t *)state, &out);
    if (out.bytes > out.capacity) {
        return TS_BUFFER_TOO_SMALL;
    }
    ts_put_u32(header, MAGIC);
    ts_put_u32(header + 4, TS_DELTA_VERSION);
    memcpy(header + BASE_HASH_AT, base->base_hash, TS_BASE_HASH_BYTES);
    ts_put_u32(header + COUNTER_AT, counter);
    ts_put_u32(header + LENGTH_AT, base->length);
    ts_put_u32(header + TOKEN_BYTES_AT, out.bytes);
    ts_put_u32(header + STATE_CRC_AT, ts_crc32(0, state, base->length));
    const uint32_t end = TS_DELTA_HEADER_BYTES + out.bytes;
    ts_put_u32(header + end, ts_crc32(0, header, end));
    *written = end + CRC_BYTES;
    return TS_OK;
}

/* The state byte for byte: summed, and written unless `state` is NULL. */
typedef struct {
    cursor base;
    uint8_t *state;
    uint32_t crc;
} patch;

static void put_difference(patch *p, uint32_t difference)
{
    const uint32_t at = p->base.at;
    const uint8_t byte = (uint8_t)(next_base(&p->base) + difference);
    p->crc = ts_crc32(p->crc, &byte, 1);
    if (p->state != NULL) {
        p->state[at] = byte;
    }
}

/* How many differences a token has; 0 when its bytes, *size, are not all there. */
static uint32_t token_length(const uint8_t *token, uint32_t left, uint32_t *size)
{
    uint32_t n = (token[0] & 0x3fu) + 1;
    switch (token[0] & KINDS) {
    case KIND_BYTES:
        *size = 1 + n;
        break;
    case KIND_NIBBLES:
        *size = 1 + (n + 1) / 2;
        break;
    case KIND_MANY_ZEROS:
        *size = 2;
        n = left < 2 ? 0 : 65 + ((n - 1) << 8 | token[1]);
        break;
    default:
        *size = 1;
    }
    return *size > left ? 0 : n;
}

static uint32_t difference(const uint8_t *token, uint32_t i)
{
    if ((token[0] & KINDS) == KIND_BYTES) {
        return token[1 + i];
    }
    if ((token[0] & KINDS) == KIND_NIBBLES) {
        const uint32_t nibble = (uint32_t)token[1 + i / 2] >> 4 * (i % 2) & 15u;
        return nibble >= 8 ? nibble + 240u : nibble;
    }
    return 0;
}

/* Whether the tokens describe exactly the state; nothing is read or written beyond either. */
static int read_tokens(const uint8_t *token, uint32_t left, uint32_t length, patch *p)
{
    while (left > 0) {
        uint32_t size;
        const uint32_t n = token_length(token, left, &size);
        if (n == 0 || n > length - p->base.at) {
            return 0;
        }
        for (uint32_t i = 0; i < n; ++i) {
            put_difference(p, difference(token, i));
        }
        token += size;
        left -= size;
    }
    return p->base.at == length;
}

ts_status ts_delta_apply(const ts_base *base, const void *delta, uint32_t bytes, void *state,
                         uint32_t *counter)
{
    if (base == NULL || delta == NULL || state == NULL) {
        return TS_BAD_ARGUMENT;
    }
    const uint8_t *header = (const uint8_t *)delta;
    if (bytes < TS_DELTA_HEADER_BYTES + CRC_BYTES || ts_get_u32(header) != MAGIC ||
        ts_get_u32(header + bytes - CRC_BYTES) != ts_crc32(0, header, bytes - CRC_BYTES)) {
        return TS_DELTA_DAMAGED;
    }
    if (ts_get_u32(header + 4) != TS_DELTA_VERSION ||
        ts_get_u32(header + LENGTH_AT) != base->length ||
        memcmp(header + BASE_HASH_AT, base->base_hash, TS_BASE_HASH_BYTES) != 0) {
        return TS_DELTA_FOREIGN;
    }
    const uint8_t *tokens = header + TS_DELTA_HEADER_BYTES;
    const uint32_t left = bytes - TS_DELTA_HEADER_BYTES - CRC_BYTES;
    patch check = {{base, 0, 0}, NULL, 0};
    if (ts_get_u32(header + TOKEN_BYTES_AT) != left ||
        !read_tokens(tokens, left, base->length, &check) ||
        check.crc != ts_get_u32(header + STATE_CRC_AT)) {
        return TS_DELTA_DAMAGED;
    }
    patch write = {{base, 0, 0}, (uint8_t *)state, 0};
    (void)read_tokens(tokens, left, base->length, &write);
    if (counter != NULL) {
        *counter = ts_get_u32(header + COUNTER_AT);
    }
    return TS_OK;
}
