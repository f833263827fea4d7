/* The secure world as a process: checks the non-secure program, starts it, answers its calls.
 *
 *     secure.elf firmware.elf
 *
 * It keeps the order of calls and the quota as a device does. It is a simulation: whoever may run
 * the program may read this process too. */
#define _GNU_SOURCE /* getrandom */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../gateway.h"
#include "../sha256.h"
#include "ts_host_world.h"

enum { EXIT_GAVE_UP = 15, EXIT_WRONG_IMAGE = 16 }; /* runner/protocol.py */

extern const uint8_t ts_host_image_digest[TS_DIGEST_BYTES]; /* generated: of the whole file */

static uint32_t next, used;

int ts_host_serve_update(int file);

_Noreturn void ts_give_up(uint32_t why)
{
    exit(why == TS_WRONG_IMAGE ? EXIT_WRONG_IMAGE : EXIT_GAVE_UP);
}

int ts_entropy(void *data, uint32_t bytes)
{
    return getrandom(data, bytes, 0) == (ssize_t)bytes;
}

static int intact(const char *path)
{
    static uint8_t block[65536];
    uint8_t digest[TS_DIGEST_BYTES];
    ts_sha256 hash;
    const int file = open(path, O_RDONLY);
    if (file < 0) {
        return 0;
    }
    ts_sha256_start(&hash);
    for (ssize_t got = 0; (got = read(file, block, sizeof block)) > 0;) {
        ts_sha256_add(&hash, block, (uint32_t)got);
    }
    (void)close(file);
    ts_sha256_finish(&hash, digest);
    return memcmp(digest, ts_host_image_digest, sizeof digest) == 0;
}

static const ts_gate *accept_call(uint32_t call)
{
    if (call >= ts_gate_count || (TS_GOES_ON(call) && call != next) ||
        (TS_COUNTED(call) && ts_call_quota != TS_NO_QUOTA && used >= ts_call_quota)) {
        return NULL;
    }
    return &ts_gates[call];
}

static ts_status compute(int file, const ts_gate *gate)
{
    ts_status status = gate->init();
    for (uint32_t i = 0; i < gate->input_count; ++i) {
        if (status != TS_OK || !ts_host_receive(file, gate->input(i), gate->input_bytes[i])) {
            return TS_REFUSED;
        }
    }
    if (gate->pad_bytes > 0) {
        if (gate->call == 0 && !ts_draw_pad(ts_pad, gate->pad_bytes)) {
            return TS_REFUSED;
        }
        memcpy(gate->pad(), ts_pad, gate->pad_bytes);
    }
    return status == TS_OK ? gate->run() : status;
}

static int answer(int file, const ts_gate *gate)
{
    next = 0;
    used += TS_COUNTED(gate->call);
    const uint32_t status = (uint32_t)compute(file, gate);
    int sent = ts_host_send(file, &status, sizeof status);
    if (status == TS_OK) {
        sent = sent && ts_host_send(file, gate->output(), gate->output_bytes);
        next = gate->call + 1u < ts_gate_count ? gate->call + 1u : 0u;
    }
    memset(ts_secure_arena, 0, ts_secure_arena_bytes);
    if (next == 0) {
        memset(ts_pad, 0, ts_pad_bytes);
    }
    return sent;
}

/* Of a model that learns, update_server.c has another. Weak: nothing is updated. */
__attribute__((weak)) int ts_host_serve_update(int file)
{
    (void)file;
    return 0;
}

static void serve(int file)
{
    uint32_t call = 0;
    for (int going = 1; going && ts_host_receive(file, &call, sizeof call);) {
        if (call == TS_HOST_UPDATE) {
            going = ts_host_serve_update(file);
            continue;
        }
        const ts_gate *const gate = accept_call(call);
        ts_host_sizes sizes = {.status = gate == NULL ? TS_REFUSED : TS_OK};
        if (gate != NULL) {
            sizes.input_count = gate->input_count;
            memcpy(sizes.input_bytes, gate->input_bytes, sizeof sizes.input_bytes);
            sizes.output_bytes = gate->output_bytes;
        }
        going = ts_host_send(file, &sizes, sizeof sizes) && (gate == NULL || answer(file, gate));
    }
}

static _Noreturn void become(const char *path, int ends[2])
{
    char *const arguments[] = {(char *)(uintptr_t)path, NULL};
    if (ends[1] == TS_HOST_SOCKET) {
        (void)close(ends[0]);
    } else if (dup2(ends[1], TS_HOST_SOCKET) < 0) {
        _exit(EXIT_GAVE_UP);
    } else {
        (void)(ends[0] == TS_HOST_SOCKET ? 0 : close(ends[0]));
        (void)close(ends[1]);
    }
    (void)execv(path, arguments);
    _exit(EXIT_GAVE_UP);
}

int main(int count, char **arguments)
{
    int ends[2], status = 0;
    if (count != 2 || !intact(arguments[1])) {
        ts_give_up(TS_WRONG_IMAGE);
    }
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) {
        ts_give_up(TS_GLITCH);
    }
    const pid_t child = fork();
    if (child < 0) {
        ts_give_up(TS_GLITCH);
    }
    if (child == 0) {
        become(arguments[1], ends);
    }
    (void)close(ends[1]);
    serve(ends[0]);
    (void)close(ends[0]);
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
        ts_give_up(TS_GLITCH);
    }
    return WEXITSTATUS(status);
}
