/* A model that learns and its store, as the harness sees them. */
#ifndef TS_HARNESS_LEARN_H
#define TS_HARNESS_LEARN_H

#include "harness.h"
#include "tinsmith/ts_delta.h"
#include "tinsmith/ts_store.h"

/* The generated functions, with the harness's context. */
struct ts_harness_learning {
    void (*carry_out)(uint32_t command, const ts_harness_model *model, int status);
    void *arena; /* holds a delta, while nothing runs */
    uint32_t arena_bytes;
    int (*open)(ts_store *store, const ts_flash *flash, uint32_t bytes);
    int (*commit)(ts_store *store);
    int (*rollback)(ts_store *store);
    int (*export_delta)(uint32_t counter, void *buffer, uint32_t capacity, uint32_t *written);
    int (*apply_delta)(const void *delta, uint32_t bytes, uint32_t *counter);
    int (*seal)(void), (*unseal)(void); /* NULL: all of the state is in the context */
};

/* `carry_out` of every model; learn.c. */
void ts_harness_learn(uint32_t command, const ts_harness_model *model, int status);

/* The commands that keep what was learnt; store.c. */
void ts_harness_keep(uint32_t command, const ts_harness_model *model, int status);

#endif
