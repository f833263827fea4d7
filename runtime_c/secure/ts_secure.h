/* What the parts of the secure image know of each other. */
#ifndef TS_SECURE_H
#define TS_SECURE_H

#include <stdint.h>

#include "tinsmith/ts_gateway.h"

/* One graph of the secure image; the generated gateway_binding.c has one for every call. */
typedef struct {
    uint32_t call;
    uint32_t input_count; /* from the caller: without the pad */
    uint32_t input_bytes[TS_GATEWAY_INPUTS];
    uint32_t input_alignment[TS_GATEWAY_INPUTS]; /* bytes of an element */
    uint32_t output_bytes;
    uint32_t output_alignment;
    uint32_t pad_bytes; /* 0 when the graph takes no pad */
    ts_status (*init)(void);
    ts_status (*run)(void);
    void *(*input)(uint32_t index); /* of the caller's inputs */
    void *(*pad)(void);
    int (*draw_pad)(void *pad, uint32_t bytes); /* of the call that begins a query */
    const void *(*output)(void);
} ts_gate;

extern const ts_gate ts_gates[];
extern const uint32_t ts_gate_count;

/* Calls answered per boot, and the same number inverted; TS_NO_QUOTA: as many as there are. */
#define TS_NO_QUOTA 0xFFFFFFFFu
extern const volatile uint32_t ts_call_quota, ts_call_quota_inverted;

/* Where all graphs compute, one at a time; a multiple of 4 bytes. */
extern uint8_t ts_secure_arena[];
extern const uint32_t ts_secure_arena_bytes;

/* The board's division of its memory; the generated zone.c. Ends are exclusive. */
typedef struct {
    uint32_t start;
    uint32_t end;
} ts_range;

typedef struct {
    ts_range range;
    uint32_t callable; /* holds veneers */
} ts_sau_region;

typedef struct {
    uint32_t base;
    ts_range non_secure; /* offsets in the memory */
} ts_mpc;

typedef struct {
    uint32_t base;
    uint32_t words;
    uint32_t value;
} ts_mpcbb;

typedef struct {
    uint32_t address;
    uint32_t set;
} ts_register;

typedef struct {
    const ts_sau_region *sau;
    const ts_mpc *mpc;
    const ts_mpcbb *mpcbb;
    const ts_register *registers, *locks;
    uint32_t sau_count, mpc_count, mpcbb_count, register_count, lock_count;
    ts_range flash, ram; /* of the non-secure world */
} ts_zone;

extern const ts_zone ts_trust_zone;

/* The non-secure image; the build writes it into section .image_record. */
enum { TS_IMAGE_PARTS = 6, TS_DIGEST_BYTES = 32 };

typedef struct {
    uint8_t digest[TS_DIGEST_BYTES]; /* SHA-256 of the parts, one after the other */
    uint32_t part_count;
    ts_range parts[TS_IMAGE_PARTS]; /* addresses */
} ts_image_record;

extern const volatile ts_image_record ts_non_secure_image;

void ts_protect(void);       /* SAU, memory and peripheral controllers, as the zone says */
void ts_lock(void);          /* what can be locked until reset */

/* Whether the non-secure image is the one of the record, in two forms that share no code: each gives
 * its token, the second TS_DIGEST_BYTES times, or anything else. The first takes the hash, into
 * digest[TS_DIGEST_BYTES], which must be zeros before. */
uint32_t ts_image_by_difference(uint8_t *digest);
uint32_t ts_image_by_count(const uint8_t *digest);
#define TS_IMAGE_BY_DIFFERENCE 0x3C5A96E1u
#define TS_IMAGE_BY_COUNT 0x07B1D2A5u

/* Fills `pad` with what cannot be predicted; whether it could. */
int ts_draw_pad(void *pad, uint32_t bytes);

/* The integrator's source of entropy; whether it gave `bytes` of it. Weak: it refuses. */
int ts_entropy(void *data, uint32_t bytes);

/* Wipes the secure RAM and resets the system. why: an exception number, or a ts_reason. A debug
 * image ends the emulator instead, and says why. */
_Noreturn void ts_give_up(uint32_t why);
typedef enum { TS_GLITCH = 0x100, TS_WRONG_IMAGE = 0x101 } ts_reason;

_Noreturn void ts_debug_end(uint32_t why);

static inline void ts_write(uint32_t address, uint32_t value)
{
    *(volatile uint32_t *)(uintptr_t)address = value;
}

static inline uint32_t ts_read_word(uint32_t address)
{
    return *(volatile uint32_t *)(uintptr_t)address;
}

#endif
