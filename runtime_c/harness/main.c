/* Carries out the commands of samples.bin and writes what they give to outputs.bin. Little-endian.
 *
 * A command is a word (uint32), the model's index in its low half, what to do in its high half, and
 * data; the answer is a record and data:
 *
 *     TS_RUN        the inputs                              the outputs
 *     TS_TIME       as host/timing.h says, where there is an operating system
 *
 * What else there is for a model that learns, learn.c and store.c say.
 * The context stays as long as the model is the same one. */
#include "harness.h"

#include <stddef.h>

#include "learn.h"
#ifdef __linux__
#include "timing.h"
#endif

enum { TS_RUN = 0, TS_TIME = 16 };

typedef struct {
    uint32_t status; /* of m_init, m_run or m_train_step; 0 is success */
    uint32_t stack_bytes;
    uint32_t ticks_low;
    uint32_t ticks_high;
} record;

static int samples, outputs;

void ts_get(void *data, uint32_t bytes)
{
    if (ts_read(samples, data, bytes) != bytes) {
        ts_exit(TS_EXIT_BAD_SAMPLES);
    }
}

void ts_put(const void *data, uint32_t bytes)
{
    if (!ts_write(outputs, data, bytes)) {
        ts_exit(TS_EXIT_NO_OUTPUT);
    }
}

void ts_put_record(int status, uint32_t stack_bytes, uint64_t ticks)
{
    const record result = {(uint32_t)status, stack_bytes, (uint32_t)ticks, (uint32_t)(ticks >> 32)};
    ts_put(&result, sizeof result);
}

static void run(const ts_harness_model *model, int status)
{
    uint32_t stack_bytes = 0;
    uint64_t ticks = 0;
    for (uint32_t i = 0; i < model->input_count; ++i) {
        ts_get(model->input(i), model->input_bytes[i]);
    }
    if (status == 0) {
        ts_stack_paint();
        ts_counter_start();
        status = model->run();
        ticks = ts_counter_stop();
        stack_bytes = ts_stack_used();
    }
    ts_put_record(status, stack_bytes, ticks);
    for (uint32_t i = 0; i < model->output_count; ++i) {
        ts_put(model->output(i), model->output_bytes[i]);
    }
}

static void carry_out(uint32_t what, const ts_harness_model *model, int status)
{
    if (what == TS_RUN) {
        run(model, status);
#ifdef __linux__
    } else if (what == TS_TIME) {
        ts_time_runs(model, status);
#endif
    } else if (model->learning != NULL) {
        model->learning->carry_out(what, model, status);
    } else {
        ts_exit(TS_EXIT_BAD_SAMPLES);
    }
}

int main(void)
{
    samples = ts_open_to_read("samples.bin");
    if (samples < 0) {
        ts_exit(TS_EXIT_NO_SAMPLES);
    }
    outputs = ts_open_to_write("outputs.bin");
    if (outputs < 0) {
        ts_exit(TS_EXIT_NO_OUTPUT);
    }
    uint32_t word = 0;
    uint32_t current = ts_harness_model_count;
    while (ts_read(samples, &word, sizeof word) == sizeof word) {
        const uint32_t index = word & 0xFFFFu;
        if (index >= ts_harness_model_count) {
            ts_exit(TS_EXIT_BAD_SAMPLES);
        }
        const ts_harness_model *model = &ts_harness_models[index];
        int status = 0;
        if (index != current) { /* one context and arena serve every model: set up on a change */
            status = model->init();
            current = index;
        }
        carry_out(word >> 16, model, status);
    }
    ts_exit(TS_EXIT_OK);
}
