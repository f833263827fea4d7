/* The harness on a POSIX machine: plain files, a clock for a counter, no painted stack. */
#define _POSIX_C_SOURCE 200809L
#include "harness.h"

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int ts_open_to_read(const char *path)
{
    return open(path, O_RDONLY);
}

int ts_open_to_write(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
}

int ts_open_to_update(const char *path)
{
    return open(path, O_RDWR);
}

int ts_seek(int file, uint32_t offset)
{
    return lseek(file, (off_t)offset, SEEK_SET) == (off_t)offset;
}

uint32_t ts_read(int file, void *data, uint32_t bytes)
{
    uint32_t done = 0;
    while (done < bytes) {
        const ssize_t got = read(file, (uint8_t *)data + done, bytes - done);
        if (got <= 0) {
            break;
        }
        done += (uint32_t)got;
    }
    return done;
}

int ts_write(int file, const void *data, uint32_t bytes)
{
    uint32_t done = 0;
    while (done < bytes) {
        const ssize_t put = write(file, (const uint8_t *)data + done, bytes - done);
        if (put <= 0) {
            return 0;
        }
        done += (uint32_t)put;
    }
    return 1;
}

_Noreturn void ts_exit(int status)
{
    exit(status);
}

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t started;

void ts_counter_start(void)
{
    started = nanoseconds();
}

uint64_t ts_counter_stop(void)
{
    return nanoseconds() - started;
}

void ts_stack_paint(void)
{
}

uint32_t ts_stack_used(void)
{
    return 0;
}
