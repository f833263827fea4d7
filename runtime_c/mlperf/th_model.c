/* The compiled model behind the MLPerf Tiny API. */
#include <string.h>

#include "harness.h"
#include "th_api.h"
#include "th_config.h"
#if EE_CFG_ENERGY_MODE
#include "ts_io.h"
#endif

static const ts_harness_model *const model = &ts_harness_models[0];
static int status;
static int used; /* the input: a run may have overwritten it */

#if defined(TH_INPUT_FLOAT32) || defined(TH_RESULT_IS_ERROR)
static float loaded(uint32_t index)
{
    float value;
    memcpy(&value, ee_get_buffer_pointer() + 4 * index, sizeof value);
    return value;
}
#endif

static float result(uint32_t index)
{
#ifdef TH_QUANTIZED
    const int8_t *values = (const int8_t *)model->output(0);
    return TH_OUTPUT_SCALE * (float)(values[index] - (TH_OUTPUT_ZERO_POINT));
#else
    return ((const float *)model->output(0))[index];
#endif
}

#if defined(TH_INPUT_FLOAT32) && defined(TH_QUANTIZED)
/* To the nearest, ties to even, as the host quantises. */
static int8_t quantize(float value)
{
    const float scaled = value / TH_INPUT_SCALE + (float)(TH_INPUT_ZERO_POINT);
    if (!(scaled > -128.0f)) {
        return -128;
    }
    if (scaled >= 127.0f) {
        return 127;
    }
    int32_t low = (int32_t)scaled;
    low -= (float)low > scaled;
    const float rest = scaled - (float)low;
    return (int8_t)(low + (rest > 0.5f || (rest == 0.5f && (low & 1) != 0)));
}
#endif

void th_final_initialize(void)
{
    status = model->init();
}

void th_load_tensor(void)
{
    void *const input = model->input(0);
    used = 0;
#if defined(TH_INPUT_FLOAT32) && defined(TH_QUANTIZED)
    for (uint32_t i = 0; i < TH_INPUT_VALUES; ++i) {
        ((int8_t *)input)[i] = quantize(loaded(i));
    }
#else
    (void)ee_get_buffer((uint8_t *)input, TH_BUFFER_BYTES);
#endif
#ifdef TH_INPUT_UINT8
    for (uint32_t i = 0; i < TH_INPUT_VALUES; ++i) {
        ((uint8_t *)input)[i] ^= 0x80u;
    }
#endif
}

void th_infer(void)
{
    if (used) {
        th_load_tensor();
    }
    if (status == 0) {
        status = model->run();
        used = 1;
    }
    if (status != 0) {
        th_printf("e-[The model returned status %d]\r\n", status);
    }
}

void th_results(void)
{
#ifdef TH_RESULT_IS_ERROR
    float sum = 0.0f;
    for (uint32_t i = 0; i < TH_OUTPUT_VALUES; ++i) {
        const float away = result(i) - loaded(i);
        sum += away * away;
    }
    th_printf("m-results-[%0.3f]\r\n", (double)(sum / (float)TH_OUTPUT_VALUES));
#else
    th_printf("m-results-[");
    for (uint32_t i = 0; i < TH_OUTPUT_VALUES; ++i) {
        th_printf(i == 0 ? "%0.3f" : ",%0.3f", (double)result(i));
    }
    th_printf("]\r\n");
#endif
}

void th_pre(void)
{
}

void th_post(void)
{
}

#if EE_CFG_ENERGY_MODE
/* Low for at least a millisecond: a turn takes 4 cycles or more. */
void th_timestamp(void)
{
    ts_io_write(TH_PIN_LOW);
    for (volatile uint32_t turn = 0; turn < TH_TICK_HZ / 4000u; ++turn) {
    }
    ts_io_write(TH_PIN_HIGH);
}

void th_timestamp_initialize(void)
{
    th_printf("m-timestamp-mode-energy\r\n");
    th_timestamp();
}
#else
static uint64_t ticks;

void th_timestamp_initialize(void)
{
    th_printf("m-timestamp-mode-performance\r\n");
    ts_counter_start();
    th_timestamp();
}

void th_timestamp(void)
{
    ticks += ts_counter_stop();
    ts_counter_start();
    const uint64_t seconds = ticks / TH_TICK_HZ;
    const uint64_t rest = ticks % TH_TICK_HZ * 1000000u / TH_TICK_HZ;
    th_printf("m-lap-us-%lu\r\n", (unsigned long)(seconds * 1000000u + rest));
}
#endif
