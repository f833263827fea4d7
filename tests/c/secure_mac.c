/* Prints HMAC-SHA256 of its input, after the first 32 bytes, which are the key; and whether two codes
 * that differ in one bit, of every bit, are seen to differ. */
#include <stdio.h>
#include <string.h>

#include "hmac.h"

int main(void)
{
    static uint8_t data[4096];
    uint8_t code[TS_MAC_BYTES], other[TS_MAC_BYTES];
    const uint32_t bytes = (uint32_t)fread(data, 1, sizeof data, stdin);
    ts_hmac mac;
    ts_hmac_start(&mac, data);
    ts_hmac_add(&mac, data + TS_MAC_KEY_BYTES, (bytes - TS_MAC_KEY_BYTES) / 3);
    const uint32_t rest = TS_MAC_KEY_BYTES + (bytes - TS_MAC_KEY_BYTES) / 3;
    ts_hmac_add(&mac, data + rest, bytes - rest);
    ts_hmac_finish(&mac, code);
    for (uint32_t i = 0; i < sizeof code; ++i) {
        printf("%02x", code[i]);
    }
    uint32_t seen = 0;
    for (uint32_t bit = 0; bit < 8 * sizeof code; ++bit) {
        memcpy(other, code, sizeof code);
        other[bit / 8] ^= (uint8_t)(1u << bit % 8);
        seen += ts_macs_differ(code, other) != 0;
    }
    printf(" %u %u\n", seen, ts_macs_differ(code, code));
    const uint8_t *const left = (const uint8_t *)&mac;
    for (uint32_t i = 0; i < sizeof mac; ++i) {
        if (left[i] != 0) {
            return 1;
        }
    }
    return 0;
}
