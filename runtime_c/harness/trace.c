/* In a trace build, writes every node's output to trace.bin, with the ticks spent since the last:
 * a record, then the data, per output and in order of execution. Little-endian. A host that wants
 * the ticks alone has no trace.bin, and gets records without data in ticks.bin. */
#include "harness.h"

#ifdef TS_TRACE
#include "tinsmith/ts_trace.h"

typedef struct {
    int32_t node;
    uint32_t bytes;
    uint32_t ticks_low;
    uint32_t ticks_high;
} trace_record;

static void write_record(int32_t node, const void *data, size_t bytes, uint64_t ticks)
{
    static int file = -1, ticks_only;
    if (file < 0) {
        file = ts_open_to_write("trace.bin");
        ticks_only = file < 0;
        file = ticks_only ? ts_open_to_write("ticks.bin") : file;
    }
    const trace_record record = {node, ticks_only ? 0 : (uint32_t)bytes, (uint32_t)ticks,
                                 (uint32_t)(ticks >> 32)};
    if (file < 0 || !ts_write(file, &record, sizeof record) ||
        !ts_write(file, data, record.bytes)) {
        ts_exit(TS_EXIT_NO_OUTPUT);
    }
}

void ts_trace(int32_t node, const void *data, size_t bytes)
{
    write_record(node, data, bytes, ts_counter_stop());
    ts_counter_start();
}

static void lower_or_raise(uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; ++i) {
        data[i] ^= 0x80u;
    }
}

void ts_trace_raised(int32_t node, uint8_t *data, size_t bytes)
{
    const uint64_t ticks = ts_counter_stop();
    lower_or_raise(data, bytes);
    write_record(node, data, bytes, ticks);
    lower_or_raise(data, bytes);
    ts_counter_start();
}
#endif
