/* The firmware around a model: what main.c needs of the model and of the machine.
 * Nothing here is part of a product; a product calls the generated API itself. */
#ifndef TS_HARNESS_H
#define TS_HARNESS_H

#include <stdint.h>

typedef struct ts_harness_learning ts_harness_learning; /* learn.h */

/* One generated model, behind function pointers so that a firmware may hold several.
 * Byte counts are per input and output; init, run and train_step return 0 on success. */
typedef struct {
    uint32_t input_count;
    uint32_t output_count;
    const uint32_t *input_bytes;
    const uint32_t *output_bytes;
    int (*init)(void);
    int (*run)(void);
    void *(*input)(uint32_t index);
    const void *(*output)(uint32_t index);
    /* Of a model that learns; else 0 and NULL. */
    uint32_t train_input_count;
    const uint32_t *train_input_bytes;
    void *(*train_input)(uint32_t index);
    const void *(*train_output)(uint32_t index);
    int (*train_step)(float learning_rate, float *loss);
    void *state;
    uint32_t state_bytes;
    const ts_harness_learning *learning;
} ts_harness_model;

/* Defined by the generated model_binding.c. */
extern const ts_harness_model ts_harness_models[];
extern const uint32_t ts_harness_model_count;

/* Files of the machine that runs the emulator or debugger. A handle below 0 is a failure;
 * ts_read returns the bytes read, ts_write whether all were written. */
int ts_open_to_read(const char *path);
int ts_open_to_write(const char *path);
int ts_open_to_update(const char *path); /* must exist */
int ts_seek(int file, uint32_t offset);  /* from the start; whether it succeeded */
uint32_t ts_read(int file, void *data, uint32_t bytes);
int ts_write(int file, const void *data, uint32_t bytes);
_Noreturn void ts_exit(int status);

/* Counts executed instructions in the board's own unit; board.toml says what a tick is. */
void ts_counter_start(void);
uint64_t ts_counter_stop(void);

/* Fills the unused stack with a pattern; afterwards ts_stack_used tells how many bytes below the
 * caller of ts_stack_paint were written since: 0 if fewer than 32, and always on the host. */
void ts_stack_paint(void);
uint32_t ts_stack_used(void);

/* The data of a command in samples.bin, the answer in outputs.bin: a record, then data. */
void ts_get(void *data, uint32_t bytes);
void ts_put(const void *data, uint32_t bytes);
void ts_put_record(int status, uint32_t stack_bytes, uint64_t ticks);

/* Exit status of the firmware. */
enum {
    TS_EXIT_OK = 0,
    TS_EXIT_NO_SAMPLES = 10,
    TS_EXIT_NO_OUTPUT = 11,
    TS_EXIT_BAD_SAMPLES = 12,
    TS_EXIT_FAULT = 13,
    TS_EXIT_POWER_CUT = 14 /* as it was told to */
};

#endif
