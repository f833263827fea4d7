/* Whole messages over a socket. */
#define _POSIX_C_SOURCE 200809L
#include "ts_host_world.h"

#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

int ts_host_receive(int file, void *data, uint32_t bytes)
{
    for (uint32_t done = 0; done < bytes;) {
        const ssize_t got = read(file, (uint8_t *)data + done, bytes - done);
        if (got <= 0) {
            return 0;
        }
        done += (uint32_t)got;
    }
    return 1;
}

int ts_host_send(int file, const void *data, uint32_t bytes)
{
    for (uint32_t done = 0; done < bytes;) {
        const ssize_t put = send(file, (const uint8_t *)data + done, bytes - done, MSG_NOSIGNAL);
        if (put <= 0) {
            return 0;
        }
        done += (uint32_t)put;
    }
    return 1;
}
