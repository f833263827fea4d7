/* stdin: rows of seven int32 (accumulator, multiplier, shift, zero point, q_min, q_max, low 32 bits
 * wanted?) → stdout: ts_requantize when the row asks for it, and ts_requantize_s8. */
#include <stdio.h>

#include "tinsmith/ts_requantize.h"

int main(void)
{
    int32_t row[7];
    while (fread(row, sizeof row, 1, stdin) == 1) {
        const int32_t results[2] = {
            row[6] ? ts_requantize(row[0], row[1], row[2]) : 0,
            ts_requantize_s8(row[0], row[1], row[2], row[3], row[4], row[5]),
        };
        fwrite(results, sizeof results, 1, stdout);
    }
    return ts_clamp(5, -1, 3) == 3 && ts_clamp(-5, -1, 3) == -1 && ts_clamp(2, -1, 3) == 2 ? 0 : 1;
}
