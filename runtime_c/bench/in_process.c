/* A compiled model as a shared library, so that it runs in one process with what it is compared
 * with. Part of no firmware. With -DTS_TRACE it also says how long every node took. */
#define _POSIX_C_SOURCE 199309L

#include <stddef.h>
#include <string.h>
#include <time.h>

#include "harness.h"

#ifdef TS_TRACE
#include "tinsmith/ts_trace.h"
#endif

static const void *samples[64];

int ts_bench_init(void);
int ts_bench_give(uint32_t index, const void *data);
int ts_bench_run(void);
const void *ts_bench_output(uint32_t index);
uint64_t ts_bench_run_traced(uint64_t *nanoseconds, uint32_t nodes);

int ts_bench_init(void)
{
    return ts_harness_models[0].init();
}

/* What input `index` holds at the start of every run; the data stays the caller's. */
int ts_bench_give(uint32_t index, const void *data)
{
    if (index >= ts_harness_models[0].input_count || index >= 64u) {
        return -1;
    }
    samples[index] = data;
    return 0;
}

static void copy_inputs(void)
{
    const ts_harness_model *model = &ts_harness_models[0];
    for (uint32_t i = 0; i < model->input_count; ++i) {
        memcpy(model->input(i), samples[i], model->input_bytes[i]);
    }
}

/* One inference, with the inputs copied in: a run may overwrite them. */
int ts_bench_run(void)
{
    copy_inputs();
    return ts_harness_models[0].run();
}

const void *ts_bench_output(uint32_t index)
{
    return ts_harness_models[0].output(index);
}

#ifdef TS_TRACE
static uint64_t last;
static uint64_t *node_times;
static uint32_t node_count;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void ts_trace(int32_t node, const void *data, size_t bytes)
{
    (void)data;
    (void)bytes;
    const uint64_t time = now();
    if (node >= 0 && (uint32_t)node < node_count) {
        node_times[node] += time - last;
    }
    last = now();
}

void ts_trace_raised(int32_t node, uint8_t *data, size_t bytes)
{
    ts_trace(node, data, bytes);
}

/* One inference; adds the nanoseconds of every node to those given. Returns those of all. */
uint64_t ts_bench_run_traced(uint64_t *nanoseconds, uint32_t nodes)
{
    copy_inputs();
    node_times = nanoseconds;
    node_count = nodes;
    const uint64_t start = now();
    last = start;
    (void)ts_harness_models[0].run();
    return now() - start;
}
#endif
