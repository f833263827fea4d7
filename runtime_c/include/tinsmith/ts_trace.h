/* With -DTS_TRACE a compiled model calls `ts_trace` after every node, once per output. The program
 * that links the model defines it. */
#ifndef TS_TRACE_H
#define TS_TRACE_H

#include <stddef.h>
#include <stdint.h>

/* node: its index in graph.tin, counted over the nodes from 0. data: the output's bytes. */
void ts_trace(int32_t node, const void *data, size_t bytes);

#endif
