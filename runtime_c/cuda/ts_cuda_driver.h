/* The part of the CUDA driver's interface that a model needs, declared here so that it builds where
 * CUDA is not installed. Names and types are those of the driver's ABI (CUDA 11.4 and later). */
#ifndef TS_CUDA_DRIVER_H
#define TS_CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>

typedef int ts_cu_result; /* 0 is success */
typedef int ts_cu_device;
typedef uint64_t ts_cu_pointer; /* device memory */
typedef struct CUctx_st *ts_cu_context;
typedef struct CUmod_st *ts_cu_module;
typedef struct CUfunc_st *ts_cu_function;
typedef struct CUstream_st *ts_cu_stream;
typedef struct CUgraph_st *ts_cu_graph;
typedef struct CUgraphExec_st *ts_cu_graph_exec;

enum {
    TS_CU_CAPABILITY_MAJOR = 75, /* device attributes */
    TS_CU_CAPABILITY_MINOR = 76,
    TS_CU_STREAM_NON_BLOCKING = 1,
    TS_CU_CAPTURE_THREAD_LOCAL = 1
};

/* Member, symbol in libcuda.so.1, parameters. */
#define TS_CUDA_FUNCTIONS(X) \
    X(init, cuInit, (unsigned flags)) \
    X(device_count, cuDeviceGetCount, (int *count)) \
    X(device_get, cuDeviceGet, (ts_cu_device * device, int ordinal)) \
    X(device_attribute, cuDeviceGetAttribute, (int *value, int attribute, ts_cu_device device)) \
    X(context_retain, cuDevicePrimaryCtxRetain, (ts_cu_context * context, ts_cu_device device)) \
    X(context_release, cuDevicePrimaryCtxRelease_v2, (ts_cu_device device)) \
    X(context_set, cuCtxSetCurrent, (ts_cu_context context)) \
    X(module_load, cuModuleLoadData, (ts_cu_module * module, const void *image)) \
    X(module_unload, cuModuleUnload, (ts_cu_module module)) \
    X(module_function, cuModuleGetFunction, \
      (ts_cu_function * function, ts_cu_module module, const char *name)) \
    X(allocate, cuMemAlloc_v2, (ts_cu_pointer * pointer, size_t bytes)) \
    X(release, cuMemFree_v2, (ts_cu_pointer pointer)) \
    X(pin, cuMemHostRegister_v2, (void *data, size_t bytes, unsigned flags)) \
    X(unpin, cuMemHostUnregister, (void *data)) \
    X(upload, cuMemcpyHtoDAsync_v2, \
      (ts_cu_pointer to, const void *from, size_t bytes, ts_cu_stream stream)) \
    X(download, cuMemcpyDtoHAsync_v2, \
      (void *to, ts_cu_pointer from, size_t bytes, ts_cu_stream stream)) \
    X(stream_create, cuStreamCreate, (ts_cu_stream * stream, unsigned flags)) \
    X(stream_destroy, cuStreamDestroy_v2, (ts_cu_stream stream)) \
    X(stream_wait, cuStreamSynchronize, (ts_cu_stream stream)) \
    X(launch, cuLaunchKernel, \
      (ts_cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, \
       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes, \
       ts_cu_stream stream, void **parameters, void **extra)) \
    X(error_text, cuGetErrorString, (ts_cu_result error, const char **text))

/* Without these, kernels are launched one by one. */
#define TS_CUDA_GRAPH_FUNCTIONS(X) \
    X(capture_begin, cuStreamBeginCapture_v2, (ts_cu_stream stream, int mode)) \
    X(capture_end, cuStreamEndCapture, (ts_cu_stream stream, ts_cu_graph * graph)) \
    X(graph_instantiate, cuGraphInstantiateWithFlags, \
      (ts_cu_graph_exec * exec, ts_cu_graph graph, unsigned long long flags)) \
    X(graph_launch, cuGraphLaunch, (ts_cu_graph_exec exec, ts_cu_stream stream)) \
    X(graph_destroy, cuGraphDestroy, (ts_cu_graph graph)) \
    X(graph_exec_destroy, cuGraphExecDestroy, (ts_cu_graph_exec exec))

#define TS_CUDA_MEMBER(member, symbol, parameters) ts_cu_result(*member) parameters;

typedef struct ts_cuda_driver {
    TS_CUDA_FUNCTIONS(TS_CUDA_MEMBER)
    TS_CUDA_GRAPH_FUNCTIONS(TS_CUDA_MEMBER)
} ts_cuda_driver;

#undef TS_CUDA_MEMBER

/* Finds the driver's functions. Returns NULL, or why there are none; those of graphs may be NULL.
 * The library stays loaded. */
const char *ts_cuda_load_driver(ts_cuda_driver *driver);

#endif
