#include "cuda/ts_cuda.h"

#include <stdio.h>
#include <string.h>

#ifdef TS_TRACE
#include <stdlib.h>

#include "tinsmith/ts_trace.h"
#endif

static ts_status fail(ts_cuda_session *session, ts_status status, const char *what,
                      ts_cu_result result)
{
    const char *text = "";
    if (result != 0 && session->driver.error_text != NULL &&
        session->driver.error_text(result, &text) != 0) {
        text = "unknown error";
    }
    (void)snprintf(session->message, sizeof session->message, "%s%s%s", what, *text ? ": " : "",
                   text);
    return status;
}

#define TRY(what, call) \
    do { \
        const ts_cu_result result_ = (call); \
        if (result_ != 0) { \
            return fail(session, TS_DEVICE_FAILED, (what), result_); \
        } \
    } while (0)

static ts_status open_device(ts_cuda_session *session)
{
    const ts_cuda_driver *driver = &session->driver;
    const ts_cuda_program *program = session->program;
    int count = 0, major = 0, minor = 0;
    const ts_cu_result started = driver->init(0);
    if (started != 0 || driver->device_count(&count) != 0 || count == 0) {
        return fail(session, TS_NO_DEVICE, "the NVIDIA driver finds no device", started);
    }
    TRY("cuDeviceGet", driver->device_get(&session->device, 0));
    TRY("cuDeviceGetAttribute",
        driver->device_attribute(&major, TS_CU_CAPABILITY_MAJOR, session->device));
    TRY("cuDeviceGetAttribute",
        driver->device_attribute(&minor, TS_CU_CAPABILITY_MINOR, session->device));
    if (major != program->capability_major || minor < program->capability_minor) {
        char text[TS_CUDA_MESSAGE_BYTES];
        (void)snprintf(text, sizeof text,
                       "the device has compute capability %d.%d; the model was compiled for %d.%d",
                       major, minor, (int)program->capability_major,
                       (int)program->capability_minor);
        return fail(session, TS_WRONG_DEVICE, text, 0);
    }
    TRY("cuDevicePrimaryCtxRetain", driver->context_retain(&session->context, session->device));
    TRY("cuCtxSetCurrent", driver->context_set(session->context));
    return TS_OK;
}

static ts_status load_model(ts_cuda_session *session, ts_cu_function *functions)
{
    const ts_cuda_driver *driver = &session->driver;
    const ts_cuda_program *program = session->program;
    TRY("cuModuleLoadData", driver->module_load(&session->module, program->image));
    for (uint32_t i = 0; i < program->kernel_count; ++i) {
        TRY(program->kernels[i],
            driver->module_function(&functions[i], session->module, program->kernels[i]));
    }
    TRY("cuStreamCreate", driver->stream_create(&session->stream, TS_CU_STREAM_NON_BLOCKING));
    TRY("memory for activations",
        driver->allocate(&session->regions[TS_CUDA_ARENA], program->arena_bytes));
    TRY("memory for weights",
        driver->allocate(&session->regions[TS_CUDA_WEIGHTS], program->weights_bytes));
    for (uint32_t i = 0; i < program->constant_count; ++i) {
        const ts_cuda_constant *constant = &program->constants[i];
        TRY("weights", driver->upload(session->regions[TS_CUDA_WEIGHTS] + constant->offset,
                                      constant->data, constant->bytes, session->stream));
    }
    TRY("weights", driver->stream_wait(session->stream));
    /* Copies from memory that is not pinned are slower, not wrong. */
    session->pinned = driver->pin(session->host, program->host_bytes, 0) == 0;
    return TS_OK;
}

static ts_status launch(ts_cuda_session *session, const ts_cu_function *functions, uint32_t index)
{
    const ts_cuda_program *program = session->program;
    const ts_cuda_launch *l = &program->launches[index];
    ts_cu_pointer pointers[TS_CUDA_MAX_ARGUMENTS];
    void *parameters[TS_CUDA_MAX_ARGUMENTS];
    for (uint32_t i = 0; i < l->argument_count && i < TS_CUDA_MAX_ARGUMENTS; ++i) {
        const ts_cuda_argument *argument = &program->arguments[l->first_argument + i];
        pointers[i] = session->regions[argument->region] + argument->offset;
        parameters[i] = &pointers[i];
    }
    TRY(program->kernels[l->kernel],
        session->driver.launch(functions[l->kernel], l->grid[0], l->grid[1], l->grid[2],
                               l->block[0], l->block[1], l->block[2], 0, session->stream,
                               parameters, NULL));
    return TS_OK;
}

#ifndef TS_TRACE
static ts_status launch_all(ts_cuda_session *session, const ts_cu_function *functions)
{
    for (uint32_t i = 0; i < session->program->launch_count; ++i) {
        const ts_status status = launch(session, functions, i);
        if (status != TS_OK) {
            return status;
        }
    }
    return TS_OK;
}

/* Once before anything is recorded: the driver loads a kernel when it is first launched. What it
 * computes from is arbitrary, and so is the result. */
static ts_status warm_up(ts_cuda_session *session, const ts_cu_function *functions)
{
    const ts_status status = launch_all(session, functions);
    if (status != TS_OK) {
        return status;
    }
    TRY("the kernels", session->driver.stream_wait(session->stream));
    return TS_OK;
}

/* Without graphs, or when recording fails, the session simply has none. */
static void record_graph(ts_cuda_session *session, const ts_cu_function *functions)
{
    const ts_cuda_driver *driver = &session->driver;
    if (driver->capture_begin == NULL ||
        driver->capture_begin(session->stream, TS_CU_CAPTURE_THREAD_LOCAL) != 0) {
        return;
    }
    ts_cu_graph graph = NULL;
    const ts_status status = launch_all(session, functions);
    const ts_cu_result ended = driver->capture_end(session->stream, &graph);
    if (status == TS_OK && ended == 0 && driver->graph_instantiate(&session->graph, graph, 0) != 0) {
        session->graph = NULL;
    }
    if (graph != NULL) {
        (void)driver->graph_destroy(graph);
    }
}
#endif

ts_status ts_cuda_open(ts_cuda_session *session, const ts_cuda_program *program,
                       ts_cu_function *functions, uint8_t *host)
{
    memset(session, 0, sizeof *session);
    session->program = program;
    session->host = host;
    const char *problem = ts_cuda_load_driver(&session->driver);
    ts_status status = problem == NULL ? open_device(session)
                                       : fail(session, TS_NO_DRIVER, problem, 0);
    if (status == TS_OK) {
        status = load_model(session, functions);
    }
#ifndef TS_TRACE
    if (status == TS_OK) {
        status = warm_up(session, functions);
    }
    if (status == TS_OK) {
        record_graph(session, functions);
    }
#endif
    if (status != TS_OK) {
        ts_cuda_close(session);
    }
    return status;
}

#ifdef TS_TRACE
/* Node by node, never as a graph. */
static ts_status compute(ts_cuda_session *session, const ts_cu_function *functions)
{
    const ts_cuda_program *program = session->program;
    if (session->trace_buffer == NULL) {
        session->trace_buffer = malloc(program->arena_bytes);
    }
    uint32_t done = 0;
    for (uint32_t i = 0; i < program->trace_count && session->trace_buffer != NULL; ++i) {
        const ts_cuda_trace *trace = &program->traces[i];
        for (; done < trace->launches; ++done) {
            const ts_status status = launch(session, functions, done);
            if (status != TS_OK) {
                return status;
            }
        }
        TRY("trace", session->driver.download(session->trace_buffer,
                                              session->regions[TS_CUDA_ARENA] + trace->offset,
                                              trace->bytes, session->stream));
        TRY("trace", session->driver.stream_wait(session->stream));
        ts_trace((int32_t)trace->node, session->trace_buffer, (size_t)trace->bytes);
    }
    return TS_OK;
}
#else
static ts_status compute(ts_cuda_session *session, const ts_cu_function *functions)
{
    if (session->graph == NULL) {
        return launch_all(session, functions);
    }
    TRY("cuGraphLaunch", session->driver.graph_launch(session->graph, session->stream));
    return TS_OK;
}
#endif

ts_status ts_cuda_run_resident(ts_cuda_session *session, const ts_cu_function *functions)
{
    TRY("cuCtxSetCurrent", session->driver.context_set(session->context));
    const ts_status status = compute(session, functions);
    if (status != TS_OK) {
        return status;
    }
    TRY("the kernels", session->driver.stream_wait(session->stream));
    return TS_OK;
}

ts_status ts_cuda_run(ts_cuda_session *session, const ts_cu_function *functions)
{
    const ts_cuda_driver *driver = &session->driver;
    const ts_cuda_program *program = session->program;
    const ts_cu_pointer arena = session->regions[TS_CUDA_ARENA];
    TRY("cuCtxSetCurrent", driver->context_set(session->context));
    for (uint32_t i = 0; i < program->input_count; ++i) {
        const ts_cuda_port *port = &program->inputs[i];
        TRY("an input", driver->upload(arena + port->device_offset, session->host + port->host_offset,
                                       port->bytes, session->stream));
    }
    const ts_status status = compute(session, functions);
    if (status != TS_OK) {
        return status;
    }
    for (uint32_t i = 0; i < program->output_count; ++i) {
        const ts_cuda_port *port = &program->outputs[i];
        TRY("an output", driver->download(session->host + port->host_offset,
                                          arena + port->device_offset, port->bytes,
                                          session->stream));
    }
    TRY("the kernels", driver->stream_wait(session->stream));
    return TS_OK;
}

void ts_cuda_close(ts_cuda_session *session)
{
    const ts_cuda_driver *driver = &session->driver;
    if (session->context != NULL) {
        (void)driver->context_set(session->context);
        if (session->graph != NULL) {
            (void)driver->graph_exec_destroy(session->graph);
        }
        for (int i = 0; i < 2; ++i) {
            if (session->regions[i] != 0) {
                (void)driver->release(session->regions[i]);
            }
        }
        if (session->pinned) {
            (void)driver->unpin(session->host);
        }
        if (session->stream != NULL) {
            (void)driver->stream_destroy(session->stream);
        }
        if (session->module != NULL) {
            (void)driver->module_unload(session->module);
        }
        (void)driver->context_release(session->device);
    }
#ifdef TS_TRACE
    free(session->trace_buffer);
#endif
    char message[TS_CUDA_MESSAGE_BYTES];
    memcpy(message, session->message, sizeof message);
    memset(session, 0, sizeof *session); /* the library stays: others may use it */
    memcpy(session->message, message, sizeof message);
}
