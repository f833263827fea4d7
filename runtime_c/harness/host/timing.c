/* TS_TIME: how long a run takes, many times over on the same inputs. For operating systems only. */
#define _DEFAULT_SOURCE
#include "timing.h"

#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

static uint32_t all_input_bytes(const ts_harness_model *model)
{
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < model->input_count; ++i) {
        bytes += model->input_bytes[i];
    }
    return bytes;
}

static void give_inputs(const ts_harness_model *model, const uint8_t *from)
{
    for (uint32_t i = 0; i < model->input_count; ++i) {
        memcpy(model->input(i), from, model->input_bytes[i]);
        from += model->input_bytes[i];
    }
}

void ts_time_runs(const ts_harness_model *model, int status)
{
    uint32_t counts[2]; /* runs before the measurement, and in it */
    ts_get(counts, sizeof counts);
    /* The times, then a copy of the inputs, for a run may overwrite the model's own. */
    const uint32_t input_bytes = all_input_bytes(model);
    const size_t bytes = counts[1] * sizeof(uint64_t) + input_bytes;
    uint64_t *times = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (times == MAP_FAILED) {
        ts_exit(TS_EXIT_BAD_SAMPLES);
    }
    uint8_t *inputs = (uint8_t *)(times + counts[1]);
    ts_get(inputs, input_bytes);
    for (uint32_t i = 0; status == 0 && i < counts[0] + counts[1]; ++i) {
        give_inputs(model, inputs);
        ts_counter_start();
        status = model->run();
        const uint64_t nanoseconds = ts_counter_stop();
        if (i >= counts[0]) {
            times[i - counts[0]] = nanoseconds;
        }
    }
    ts_put_record(status, 0, 0);
    ts_put(times, (uint32_t)(counts[1] * sizeof(uint64_t)));
    munmap(times, bytes);
}
