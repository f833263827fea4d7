/* Reads requests (kind, counter, in_force: 3 uint32, little-endian; a tag) for a state of 64 bytes that
 * rise from 0, with the key 0, 1, 2 … and the base hash 50, 51, 52 … Prints 0 for each that was
 * accepted, else 1; 2 where the two forms of the check do not agree, or where a tag that was made is
 * not the one that was read. */
#include <stdio.h>
#include <string.h>

#include "update.h"

const volatile uint8_t ts_update_key[TS_MAC_KEY_BYTES] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
    16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
};
const uint8_t ts_update_base[TS_BASE_HASH_BYTES] = {
    50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65,
    66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81,
};
const uint32_t ts_update_state_bytes = 64, ts_update_delta_bytes = 64;

static int decide(ts_update_state *state, const uint8_t *data, const uint32_t numbers[3],
                  const uint8_t *tag)
{
    ts_update_job one = {.kind = numbers[0], .counter = numbers[1], .in_force = numbers[2],
                         .bytes = 64, .data = (uintptr_t)data};
    memcpy(one.tag, tag, TS_TAG_BYTES);
    ts_update_job other = one;
    const int first = ts_update_by_difference(&one, state) ==
                      TS_UPDATE_CHECKS * TS_UPDATE_BY_DIFFERENCE;
    const int second = ts_update_by_count(&other, state) == TS_UPDATE_CHECKS * TS_UPDATE_BY_COUNT;
    if (first != second) {
        return 2;
    }
    if (first && (memcmp(one.tag, tag, TS_TAG_BYTES) != 0 ||
                  memcmp(one.tag, other.tag, TS_TAG_BYTES) != 0)) {
        return 2;
    }
    if (first) {
        ts_update_note(&one, &other, state);
    }
    return !first;
}

int main(void)
{
    static ts_update_state state = TS_UPDATE_STATE_AT_BOOT;
    uint32_t numbers[3];
    uint8_t data[64], tag[TS_TAG_BYTES];
    for (uint32_t i = 0; i < sizeof data; ++i) {
        data[i] = (uint8_t)i;
    }
    while (fread(numbers, 1, sizeof numbers, stdin) == sizeof numbers &&
           fread(tag, 1, sizeof tag, stdin) == sizeof tag) {
        printf("%d\n", decide(&state, data, numbers, tag));
    }
    return 0;
}
