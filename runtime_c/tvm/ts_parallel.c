/* Runs the parallel loops of TVM's kernels on a fixed pool of threads: what they call in place of
 * TVM's runtime. Who is there takes the next part of a loop, so a worker that the system lets wait holds
 * up nobody. A worker waits for the next loop by spinning, and after a while asleep. When another thread
 * of the product has the pool, a loop runs on its caller alone. */
#define _POSIX_C_SOURCE 200809L
#include "tinsmith/ts_parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPINS_BEFORE_SLEEP = 600000, SPINS_BEFORE_YIELD = 2000 };

/* TVMParallelGroupEnv and FTVMParallelLambda of tvm/runtime/c_backend_api.h. */
typedef struct {
    void *sync;
    int32_t tasks;
} group;
typedef int (*loop_body)(int task, group *env, void *closure);

/* Two lines of the cache: what a worker reads all the time, and what changes hands with a job. */
enum { CACHE_LINE = 64 };

static struct {
    _Alignas(CACHE_LINE) atomic_uint generation; /* of the job, odd; the workers wait for the next */
} shown;

static struct {
    _Alignas(CACHE_LINE) loop_body body;
    void *closure;
    group env;
    atomic_uint open;     /* the generation that workers may enter; 0: none */
    atomic_int inside;    /* workers that look at the job */
    atomic_int next_task; /* the first that nobody has taken */
    atomic_int failed;
} job;

static atomic_flag busy = ATOMIC_FLAG_INIT;
static atomic_int sleeping;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int32_t threads = 1;
static int32_t workers;
static unsigned born[TS_MAX_THREADS]; /* the generation before a worker's first */

static void pause_a_little(uint32_t spins)
{
    if (spins > SPINS_BEFORE_YIELD) {
        sched_yield();
        return;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void run_tasks(void)
{
    for (;;) {
        const int32_t task = atomic_fetch_add(&job.next_task, 1);
        if (task >= job.env.tasks) {
            return;
        }
        if (job.body(task, &job.env, job.closure) != 0) {
            atomic_store(&job.failed, 1);
        }
    }
}

static void wait_for_change(unsigned seen)
{
    for (uint32_t spins = 0; spins < SPINS_BEFORE_SLEEP; ++spins) {
        if (atomic_load(&shown.generation) != seen) {
            return;
        }
        pause_a_little(spins % SPINS_BEFORE_YIELD);
    }
    pthread_mutex_lock(&lock);
    atomic_fetch_add(&sleeping, 1);
    while (atomic_load(&shown.generation) == seen) {
        pthread_cond_wait(&wake, &lock);
    }
    atomic_fetch_sub(&sleeping, 1);
    pthread_mutex_unlock(&lock);
}

static void *work(void *argument)
{
    const int32_t index = (int32_t)(intptr_t)argument;
    unsigned seen = born[index];
    for (;;) {
        wait_for_change(seen);
        seen = atomic_load(&shown.generation);
        atomic_fetch_add(&job.inside, 1);
        if (atomic_load(&job.open) == seen) {
            run_tasks();
        }
        atomic_fetch_sub(&job.inside, 1);
    }
    return NULL;
}

/* Makes the workers that are missing; where the system has none left, fewer threads do. */
static void grow(void)
{
    while (workers + 1 < threads) {
        const int32_t index = workers + 1;
        pthread_t made;
        born[index] = atomic_load(&shown.generation);
        if (pthread_create(&made, NULL, work, (void *)(intptr_t)index) != 0) {
            threads = index;
            return;
        }
        pthread_detach(made);
        ++workers;
    }
}

static int launch(loop_body body, void *closure, int tasks)
{
    if (threads == 1 || atomic_flag_test_and_set(&busy)) {
        group alone = {NULL, 1};
        return body(0, &alone, closure);
    }
    grow();
    job.body = body;
    job.closure = closure;
    job.env.tasks = tasks > 0 ? tasks : threads;
    atomic_store(&job.failed, 0);
    atomic_store(&job.next_task, 0);
    const unsigned current = (atomic_load(&shown.generation) + 1) | 1u; /* never 0 */
    atomic_store(&job.open, current);
    atomic_store(&shown.generation, current);
    if (atomic_load(&sleeping) > 0) {
        pthread_mutex_lock(&lock);
        pthread_cond_broadcast(&wake);
        pthread_mutex_unlock(&lock);
    }
    run_tasks();
    atomic_store(&job.open, 0); /* who has not entered by now comes too late */
    for (uint32_t spins = 0; atomic_load(&job.inside) > 0; ++spins) {
        pause_a_little(spins);
    }
    const int status = atomic_load(&job.failed) ? -1 : 0;
    atomic_flag_clear(&busy);
    return status;
}

/* What TVM's code looks up; it declares this pointer itself, weakly and without a value. */
extern int (*__TVMBackendParallelLaunch)(loop_body body, void *closure, int tasks);
int (*__TVMBackendParallelLaunch)(loop_body body, void *closure, int tasks) = launch;

static void read_environment(void)
{
    const char *text = getenv("TINSMITH_THREADS");
    if (text != NULL) {
        const long count = strtol(text, NULL, 10);
        ts_set_threads(count > TS_MAX_THREADS ? TS_MAX_THREADS : (int32_t)count);
    }
}

void ts_set_threads(int32_t count)
{
    threads = count < 1 ? 1 : count > TS_MAX_THREADS ? TS_MAX_THREADS : count;
}

void ts_parallel_init(void)
{
    pthread_once(&once, read_environment);
}
