/* Runs a compiled model on a CUDA device through the driver, which is loaded when it is first used.
 *
 * A model is a `ts_cuda_program`: machine code, and tables that say which kernel runs when on which
 * bytes of two regions of device memory, the arena (activations) and the weights. */
#ifndef TS_CUDA_H
#define TS_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda/ts_cuda_driver.h"
#include "tinsmith/ts_status.h"

typedef enum ts_cuda_region { TS_CUDA_ARENA = 0, TS_CUDA_WEIGHTS = 1 } ts_cuda_region;

/* One pointer parameter of a kernel. */
typedef struct ts_cuda_argument {
    uint8_t region; /* ts_cuda_region */
    uint64_t offset;
} ts_cuda_argument;

typedef struct ts_cuda_launch {
    uint32_t kernel; /* index into the program's kernels */
    uint32_t first_argument, argument_count;
    uint32_t grid[3];
    uint32_t block[3];
} ts_cuda_launch;

/* An array of constants and where it lies among the weights on the device. */
typedef struct ts_cuda_constant {
    const void *data;
    uint64_t bytes;
    uint64_t offset;
} ts_cuda_constant;

/* A graph input or output: in the caller's memory, and in the arena on the device. */
typedef struct ts_cuda_port {
    uint64_t host_offset;
    uint64_t device_offset;
    uint64_t bytes;
} ts_cuda_port;

/* What `ts_trace` reports: after `launches` launches, output bytes of `node`. */
typedef struct ts_cuda_trace {
    uint32_t node;
    uint32_t launches;
    uint64_t offset;
    uint64_t bytes;
} ts_cuda_trace;

typedef struct ts_cuda_program {
    const void *image; /* cubin */
    int32_t capability_major, capability_minor;
    const char *const *kernels;
    uint32_t kernel_count;
    const ts_cuda_launch *launches;
    uint32_t launch_count;
    const ts_cuda_argument *arguments;
    const ts_cuda_constant *constants;
    uint32_t constant_count;
    const ts_cuda_port *inputs, *outputs;
    uint32_t input_count, output_count;
    uint64_t arena_bytes, weights_bytes, host_bytes;
    const ts_cuda_trace *traces;
    uint32_t trace_count;
} ts_cuda_program;

enum { TS_CUDA_MESSAGE_BYTES = 192, TS_CUDA_MAX_ARGUMENTS = 16 };

/* A device that holds one model. All zero: not opened. */
typedef struct ts_cuda_session {
    const ts_cuda_program *program;
    uint8_t *host; /* the caller's memory */
    ts_cuda_driver driver;
    ts_cu_device device;
    ts_cu_context context;
    ts_cu_module module;
    ts_cu_stream stream;
    ts_cu_pointer regions[2]; /* by ts_cuda_region */
    ts_cu_graph_exec graph;   /* NULL: kernels are launched one by one */
    void *trace_buffer;
    bool pinned;
    char message[TS_CUDA_MESSAGE_BYTES]; /* why the last call failed */
} ts_cuda_session;

/* Loads the driver, opens the first device, uploads code and weights, records a CUDA graph.
 *
 * functions: an array of `kernel_count` elements that lives as long as the session. host: the memory
 * of inputs and outputs. On failure (TS_NO_DRIVER, TS_NO_DEVICE, TS_WRONG_DEVICE, TS_DEVICE_FAILED)
 * everything is released again and `message` says why. */
ts_status ts_cuda_open(ts_cuda_session *session, const ts_cuda_program *program,
                       ts_cu_function *functions, uint8_t *host);

/* Copies the inputs to the device, runs, copies the outputs back; waits for the end. */
ts_status ts_cuda_run(ts_cuda_session *session, const ts_cu_function *functions);

/* Runs on what the device's memory holds, without copies; waits for the end. */
ts_status ts_cuda_run_resident(ts_cuda_session *session, const ts_cu_function *functions);

/* Releases the device's memory; the message stays. */
void ts_cuda_close(ts_cuda_session *session);

#endif
