/* With -DTS_TRACE a compiled model calls these after every node, once per output. The program
 * that links the model defines them. */
#ifndef TS_TRACE_H
#define TS_TRACE_H

#include <stddef.h>
#include <stdint.h>

/* node: its index in graph.tin, counted over the nodes from 0. data: the output's bytes. */
void ts_trace(int32_t node, const void *data, size_t bytes);

/* The same of an int8 output that is stored as uint8, 128 above its value. */
void ts_trace_raised(int32_t node, uint8_t *data, size_t bytes);

#endif
