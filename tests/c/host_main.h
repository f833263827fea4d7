/* Runs models one after the other on samples from a file; the arena is exactly as large as promised
 * and holds rubbish before every run. */
#define _POSIX_C_SOURCE 200112L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tinsmith/ts_status.h"

static FILE *in, *out;
static int failed;

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        exit(3);
    }
}

/* m: the model's C name, M: the stem of its macros. */
#define MODEL(m, M)                                                                               \
    static void run_##m(void)                                                                     \
    {                                                                                             \
        m##_context ctx;                                                                          \
        void *arena = NULL;                                                                       \
        uint32_t samples;                                                                         \
        const size_t alignment = M##_ARENA_ALIGNMENT < 8 ? 8 : M##_ARENA_ALIGNMENT;               \
        require(posix_memalign(&arena, alignment, M##_ARENA_BYTES) == 0, #m ": no memory");       \
        require(fread(&samples, 4, 1, in) == 1, #m ": no sample count");                          \
        require(m##_init(&ctx, arena, M##_ARENA_BYTES) == TS_OK, #m ": init failed");             \
        for (uint32_t s = 0; s < samples; ++s) {                                                  \
            memset(arena, 0xA5, M##_ARENA_BYTES);                                                 \
            for (int32_t i = 0; i < M##_INPUT_COUNT; ++i) {                                       \
                const size_t bytes = m##_in_bytes[i];                                             \
                require(fread(m##_input(&ctx, i), 1, bytes, in) == bytes, #m ": short input");    \
            }                                                                                     \
            require(m##_run(&ctx) == TS_OK, #m ": run failed");                                   \
            for (int32_t i = 0; i < M##_OUTPUT_COUNT; ++i) {                                      \
                fwrite(m##_output(&ctx, i), 1, m##_out_bytes[i], out);                            \
            }                                                                                     \
        }                                                                                         \
        if (m##_selftest(&ctx) != TS_OK) {                                                        \
            fprintf(stderr, "%s\n", #m ": the self-test failed");                                 \
            failed = 1;                                                                           \
        }                                                                                         \
        free(arena);                                                                              \
    }

static void run_all(void);

int main(int argc, char **argv)
{
    require(argc == 3, "usage: model INPUT OUTPUT");
    in = fopen(argv[1], "rb");
    out = fopen(argv[2], "wb");
    require(in != NULL && out != NULL, "cannot open the files");
    run_all();
    fclose(in);
    fclose(out);
    return failed;
}
