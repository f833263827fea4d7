/* The gateway of a simulated pair, the caller's side: asks the process that started this one. */
#include "ts_host_world.h"

static ts_status ask(uint32_t call, const ts_gateway_request *request)
{
    ts_host_sizes sizes;
    uint32_t status = TS_REFUSED;
    if (!ts_host_send(TS_HOST_SOCKET, &call, sizeof call) ||
        !ts_host_receive(TS_HOST_SOCKET, &sizes, sizeof sizes) || sizes.status != TS_OK ||
        sizes.input_count > TS_GATEWAY_INPUTS) {
        return TS_REFUSED;
    }
    for (uint32_t i = 0; i < sizes.input_count; ++i) {
        if (!ts_host_send(TS_HOST_SOCKET, request->input[i], sizes.input_bytes[i])) {
            return TS_REFUSED;
        }
    }
    if (!ts_host_receive(TS_HOST_SOCKET, &status, sizeof status) || status != TS_OK ||
        !ts_host_receive(TS_HOST_SOCKET, request->output, sizes.output_bytes)) {
        return TS_REFUSED;
    }
    return TS_OK;
}

uint32_t ts_gateway_call(uint32_t call, const ts_gateway_request *request)
{
    const ts_status status = request == 0 ? TS_REFUSED : ask(call, request);
    return status == TS_OK ? TS_ANSWERED(call) : (uint32_t)status;
}
