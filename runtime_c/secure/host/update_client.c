/* Updates of a simulated pair, the caller's side. */
#include "tinsmith/ts_update.h"
#include "ts_host_world.h"

uint32_t ts_update(const ts_update_request *request)
{
    const uint32_t call = TS_HOST_UPDATE;
    const uint32_t numbers[4] = {request->kind, request->counter, request->in_force,
                                 request->bytes};
    uint32_t answer = 0;
    if (!ts_host_send(TS_HOST_SOCKET, &call, sizeof call) ||
        !ts_host_send(TS_HOST_SOCKET, numbers, sizeof numbers) ||
        !ts_host_send(TS_HOST_SOCKET, request->tag, TS_TAG_BYTES) ||
        !ts_host_send(TS_HOST_SOCKET, request->data, request->bytes) ||
        !ts_host_receive(TS_HOST_SOCKET, &answer, sizeof answer) ||
        !ts_host_receive(TS_HOST_SOCKET, request->tag, TS_TAG_BYTES)) {
        return 0;
    }
    return answer;
}
