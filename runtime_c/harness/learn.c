/* Commands to a model that learns, as main.c carries them out:
 *
 *     TS_TRAIN      the training inputs, the rate (float)   the loss (float), the outputs before it
 *     TS_GET_STATE                                          the state
 *     TS_SET_STATE  the state
 */
#include "learn.h"

#include <stddef.h>

enum { TS_TRAIN = 1, TS_GET_STATE = 2, TS_SET_STATE = 3 };

static void train(const ts_harness_model *model, int status)
{
    uint32_t stack_bytes = 0;
    uint64_t ticks = 0;
    float rate, loss = 0.0f;
    for (uint32_t i = 0; i < model->train_input_count; ++i) {
        ts_get(model->train_input(i), model->train_input_bytes[i]);
    }
    ts_get(&rate, sizeof rate);
    if (status == 0) {
        ts_stack_paint();
        ts_counter_start();
        status = model->train_step(rate, &loss);
        ticks = ts_counter_stop();
        stack_bytes = ts_stack_used();
    }
    ts_put_record(status, stack_bytes, ticks);
    ts_put(&loss, sizeof loss);
    for (uint32_t i = 0; i < model->output_count; ++i) {
        ts_put(model->train_output(i), model->output_bytes[i]);
    }
}

void ts_harness_learn(uint32_t command, const ts_harness_model *model, int status)
{
    switch (command) {
    case TS_TRAIN:
        train(model, status);
        break;
    case TS_GET_STATE:
        if (status == 0 && model->learning->seal != NULL) {
            status = model->learning->seal();
        }
        ts_put_record(status, 0, 0);
        ts_put(model->state, model->state_bytes);
        break;
    case TS_SET_STATE:
        ts_get(model->state, model->state_bytes);
        if (status == 0 && model->learning->unseal != NULL) {
            status = model->learning->unseal();
        }
        ts_put_record(status, 0, 0);
        break;
    default:
        ts_harness_keep(command, model, status);
    }
}
