/* What every function of a compiled model returns. */
#ifndef TS_STATUS_H
#define TS_STATUS_H

typedef enum ts_status {
    TS_OK = 0,
    TS_BAD_ARGUMENT = 1,     /* a null pointer */
    TS_ARENA_TOO_SMALL = 2,  /* fewer bytes than <MODEL>_ARENA_BYTES */
    TS_ARENA_MISALIGNED = 3, /* not aligned to <MODEL>_ARENA_ALIGNMENT */
    TS_NOT_INITIALIZED = 4,  /* the context has seen no successful init */
    TS_SELFTEST_FAILED = 5   /* the embedded sample gave another result than the oracle */
} ts_status;

#endif
