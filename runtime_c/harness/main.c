/* Runs the model on every sample of samples.bin and writes outputs.bin.
 *
 * samples.bin: per sample the model's index (uint32), then its inputs' bytes in order.
 * outputs.bin: per sample a record, then the outputs' bytes in order. Little-endian. */
#include "harness.h"

typedef struct {
    uint32_t status; /* of m_init or m_run; 0 is success */
    uint32_t stack_bytes;
    uint32_t ticks_low;
    uint32_t ticks_high;
} record;

static void run_sample(const ts_harness_model *model, record *result)
{
    ts_stack_paint();
    ts_counter_start();
    result->status = (uint32_t)model->run();
    const uint64_t ticks = ts_counter_stop();
    result->stack_bytes = ts_stack_used();
    result->ticks_low = (uint32_t)ticks;
    result->ticks_high = (uint32_t)(ticks >> 32);
}

static void read_inputs(int samples, const ts_harness_model *model)
{
    for (uint32_t i = 0; i < model->input_count; ++i) {
        const uint32_t bytes = model->input_bytes[i];
        if (ts_read(samples, model->input(i), bytes) != bytes) {
            ts_exit(TS_EXIT_BAD_SAMPLES);
        }
    }
}

static void write_result(int outputs, const ts_harness_model *model, const record *result)
{
    int ok = ts_write(outputs, result, sizeof *result);
    for (uint32_t i = 0; ok && i < model->output_count; ++i) {
        ok = ts_write(outputs, model->output(i), model->output_bytes[i]);
    }
    if (!ok) {
        ts_exit(TS_EXIT_NO_OUTPUT);
    }
}

int main(void)
{
    const int samples = ts_open_to_read("samples.bin");
    if (samples < 0) {
        ts_exit(TS_EXIT_NO_SAMPLES);
    }
    const int outputs = ts_open_to_write("outputs.bin");
    if (outputs < 0) {
        ts_exit(TS_EXIT_NO_OUTPUT);
    }
    uint32_t index = 0;
    uint32_t current = ts_harness_model_count;
    while (ts_read(samples, &index, sizeof index) == sizeof index) {
        if (index >= ts_harness_model_count) {
            ts_exit(TS_EXIT_BAD_SAMPLES);
        }
        const ts_harness_model *model = &ts_harness_models[index];
        record result = {0, 0, 0, 0};
        if (index != current) { /* one context and arena serve every model: set up on a change */
            result.status = (uint32_t)model->init();
            current = index;
        }
        read_inputs(samples, model);
        if (result.status == 0) {
            run_sample(model, &result);
        }
        write_result(outputs, model, &result);
    }
    ts_exit(TS_EXIT_OK);
}
