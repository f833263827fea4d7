/* The pool of ts_parallel.c: every part of a loop runs once, whatever the number of threads, also when
 * two callers want the pool at once, when a loop starts another, and after a pause. */
#define _POSIX_C_SOURCE 200809L
#include "tinsmith/ts_parallel.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ITEMS = 97, ROUNDS = 3000 };

typedef struct {
    void *sync;
    int32_t tasks;
} group;
typedef int (*loop_body)(int task, group *env, void *closure);

/* As TVM's objects have it. */
int (*__TVMBackendParallelLaunch)(loop_body body, void *closure, int tasks) __attribute__((weak));

static int count_up(int task, group *env, void *closure)
{
    int32_t *items = closure;
    for (int i = task; i < ITEMS; i += env->tasks) {
        ++items[i];
    }
    return 0;
}

static int nested(int task, group *env, void *closure)
{
    (void)env;
    return task == 0 ? __TVMBackendParallelLaunch(count_up, closure, 0) : 0;
}

static int fails_once(int task, group *env, void *closure)
{
    (void)closure;
    return task == env->tasks - 1 ? -1 : 0;
}

static void expect(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

static void all_are(const int32_t *items, int32_t wanted, const char *what)
{
    for (int i = 0; i < ITEMS; ++i) {
        expect(items[i] == wanted, what);
    }
}

static void *run_many(void *closure)
{
    for (int i = 0; i < ROUNDS; ++i) {
        expect(__TVMBackendParallelLaunch(count_up, closure, 0) == 0, "a launch failed");
    }
    return NULL;
}

int main(void)
{
    static int32_t mine[ITEMS], others[ITEMS], inner[ITEMS];
    static const int32_t counts[] = {1, 2, 3, 1, 2};
    for (int k = 0; k < 5; ++k) {
        ts_set_threads(counts[k]);
        run_many(mine);
    }
    all_are(mine, 5 * ROUNDS, "an item was left out or done twice");
    expect(__TVMBackendParallelLaunch(fails_once, NULL, 0) != 0, "a failure was not reported");
    expect(__TVMBackendParallelLaunch(nested, inner, 0) == 0, "a loop in a loop failed");
    all_are(inner, 1, "a loop in a loop is wrong");

    pthread_t other;
    expect(pthread_create(&other, NULL, run_many, others) == 0, "no thread");
    run_many(mine);
    pthread_join(other, NULL);
    all_are(mine, 6 * ROUNDS, "two callers at once: the first is wrong");
    all_are(others, ROUNDS, "two callers at once: the second is wrong");

    const struct timespec pause = {0, 100 * 1000 * 1000}; /* the workers fall asleep */
    nanosleep(&pause, NULL);
    run_many(mine);
    all_are(mine, 7 * ROUNDS, "after a pause");
    return 0;
}
