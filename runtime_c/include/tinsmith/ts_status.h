/* What every function of a compiled model and of the runtime returns. */
#ifndef TS_STATUS_H
#define TS_STATUS_H

typedef enum ts_status {
    TS_OK = 0,
    TS_BAD_ARGUMENT = 1,      /* a null pointer */
    TS_ARENA_TOO_SMALL = 2,   /* fewer bytes than <MODEL>_ARENA_BYTES */
    TS_ARENA_MISALIGNED = 3,  /* not aligned to <MODEL>_ARENA_ALIGNMENT */
    TS_NOT_INITIALIZED = 4,   /* the context has seen no successful init */
    TS_SELFTEST_FAILED = 5,   /* the embedded sample gave another result than the oracle */
    TS_BAD_LABEL = 6,         /* the label of a training step is not a class */
    TS_BAD_LEARNING_RATE = 7, /* negative, infinite or not a number */
    TS_REFUSED = 8,           /* the secure world did not authorise the call, see ts_gateway.h */
    TS_FLASH_FAILED = 16,     /* the flash driver reported a failure, or data did not read back */
    TS_STORE_EMPTY = 17,      /* the store holds no intact block */
    TS_STORE_FOREIGN = 18,    /* the store holds a block of another model, length or format */
    TS_STORE_TOO_SMALL = 19,  /* the region cannot hold two blocks, or the flash is not supported */
    TS_DELTA_DAMAGED = 20,    /* not a delta, cut short, or its check sum is wrong */
    TS_DELTA_FOREIGN = 21,    /* a delta for another model, length or format */
    TS_BUFFER_TOO_SMALL = 22, /* the caller's buffer cannot hold the result */
    TS_STORE_NOT_AUTHENTIC = 23, /* a block of the store is not of this device, or is too old */
    TS_DELTA_NOT_AUTHENTIC = 24, /* a delta for another device, or not newer than the last */
    TS_NO_DRIVER = 48,        /* the GPU's driver is not installed, or too old */
    TS_NO_DEVICE = 49,        /* the driver finds no GPU */
    TS_WRONG_DEVICE = 50,     /* the GPU cannot run what the model was compiled for */
    TS_DEVICE_FAILED = 51     /* the driver reported a failure, see <model>_message */
} ts_status;

#endif
