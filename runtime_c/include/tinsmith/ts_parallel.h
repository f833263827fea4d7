/* The threads of kernels that come from TVM; runtime_c/tvm/ts_parallel.c. */
#ifndef TS_PARALLEL_H
#define TS_PARALLEL_H

#include <stdint.h>

enum { TS_MAX_THREADS = 64 };

/* How many threads a kernel may use, the caller's included: 1 … TS_MAX_THREADS. With 1 none is made.
 * The results do not depend on it. Not while a model runs. */
void ts_set_threads(int32_t count);

/* The first call takes the number from the environment, TINSMITH_THREADS; 1 where it is not set.
 * `<model>_init` makes it. */
void ts_parallel_init(void);

#endif
