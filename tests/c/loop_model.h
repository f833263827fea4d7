/* A stand-in for a compiled model: executes a known number of instructions, given as its input. */
#ifndef LOOP_MODEL_H
#define LOOP_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "tinsmith/ts_status.h"

#define LOOP_MODEL_ARENA_BYTES 16
#define LOOP_MODEL_ARENA_ALIGNMENT 4
#define LOOP_MODEL_INPUT_COUNT 1
#define LOOP_MODEL_OUTPUT_COUNT 1
#define LOOP_MODEL_INPUT_0_BYTES 4
#define LOOP_MODEL_OUTPUT_0_BYTES 4

typedef struct {
    uint32_t *words;
} loop_model_context;

ts_status loop_model_init(loop_model_context *ctx, void *arena, size_t bytes);
ts_status loop_model_run(loop_model_context *ctx);
void *loop_model_input(const loop_model_context *ctx, int32_t index);
const void *loop_model_output(const loop_model_context *ctx, int32_t index);

#endif
