/* The host's files over the serial link. */
#ifndef TS_REMOTE_FILES_H
#define TS_REMOTE_FILES_H

#include <stdint.h>

/* mode: 'r', 'w' or 'u'. A handle, or -1. */
int ts_remote_open(char mode, const char *path);

int ts_remote_seek(int file, uint32_t offset); /* from the start; whether it succeeded */
uint32_t ts_remote_read(int file, void *data, uint32_t bytes);
void ts_remote_write(int file, const void *data, uint32_t bytes);
_Noreturn void ts_remote_exit(int status);

#endif
