#include "cuda/ts_cuda_driver.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

static bool find(void *library, const char *name, void *member)
{
    void *symbol = dlsym(library, name);
    memcpy(member, &symbol, sizeof symbol);
    return symbol != NULL;
}

const char *ts_cuda_load_driver(ts_cuda_driver *driver)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return "no NVIDIA driver: libcuda.so.1 is not installed";
    }
    bool complete = true, graphs = true;
#define FIND(member, symbol, parameters) \
    complete = find(library, #symbol, &driver->member) && complete;
    TS_CUDA_FUNCTIONS(FIND)
#undef FIND
#define FIND(member, symbol, parameters) graphs = find(library, #symbol, &driver->member) && graphs;
    TS_CUDA_GRAPH_FUNCTIONS(FIND)
#undef FIND
    if (!graphs) {
        driver->capture_begin = NULL; /* all of them, or none */
    }
    return complete ? NULL : "the NVIDIA driver is older than CUDA 11.4";
}
