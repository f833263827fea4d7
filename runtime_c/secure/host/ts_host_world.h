/* What the two processes of a simulated pair say to each other over a socket. It protects nothing:
 * it lets the same programs run where there is no secure world.
 *
 *     call (uint32)                        ->
 *                                          <-  ts_host_sizes
 *     the inputs, if the status is TS_OK   ->
 *                                          <-  status (uint32), and the output if it is TS_OK
 *
 * or, of a model that learns:
 *
 *     TS_HOST_UPDATE, kind, counter, in_force, bytes (uint32), tag, data     ->
 *                                          <-  the answer (uint32), tag */
#ifndef TS_HOST_WORLD_H
#define TS_HOST_WORLD_H

#include <stdint.h>

#include "tinsmith/ts_gateway.h"

enum { TS_HOST_SOCKET = 3 }; /* the non-secure program's end */
#define TS_HOST_UPDATE 0xFFFFFFF1u

typedef struct {
    uint32_t status; /* whether the call is accepted */
    uint32_t input_count;
    uint32_t input_bytes[TS_GATEWAY_INPUTS];
    uint32_t output_bytes;
} ts_host_sizes;

/* Whether all bytes went through. */
int ts_host_receive(int file, void *data, uint32_t bytes);
int ts_host_send(int file, const void *data, uint32_t bytes);

#endif
