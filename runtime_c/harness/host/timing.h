#ifndef TS_TIMING_H
#define TS_TIMING_H

#include "harness.h"

/* Two counts, of runs before the measurement and in it, and the inputs in; a record and then a uint64
 * of nanoseconds per measured run out. */
void ts_time_runs(const ts_harness_model *model, int status);

#endif
