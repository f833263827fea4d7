// A libcuda.so.1 that computes on the CPU: the driver functions that a compiled model calls, and its
// kernels, compiled from their CUDA source, one block after the other.
//
// KERNELS names the source, KERNEL_LIST a header that lists KERNEL(name) for each of them.
// The environment chooses what is emulated: TS_EMULATED_CAPABILITY ("9.0"), TS_EMULATED_DEVICES
// ("1"), TS_EMULATED_GRAPHS ("1"), TS_EMULATED_ORDER ("forward", "backward": how threads take turns;
// a missing barrier gives two different results). Long: it is one library, threads and driver, whose
// static state the driver's functions share.
#include "cuda_shim.h"

#include <setjmp.h>
#include <ucontext.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

emulated_index threadIdx, blockIdx;

namespace {
constexpr size_t kStackBytes = 256 * 1024;
constexpr unsigned kWarp = 32;

enum class State { ready, at_block_barrier, at_warp_barrier, done };

struct Fiber {
    State state = State::done;
    emulated_index index{};
    jmp_buf context;
    std::vector<char> stack;
    bool started = false;
};

std::vector<Fiber *> fibers;
Fiber *current;
unsigned current_number;
jmp_buf scheduler;
ucontext_t created_from;
std::function<void()> body;
std::vector<uint64_t> slots;
Fiber *entering;

void leave(State state)
{
    current->state = state;
    if (_setjmp(current->context) == 0) {
        _longjmp(scheduler, 1);
    }
}

void fiber_main()
{
    static ucontext_t unused;
    if (_setjmp(entering->context) == 0) {
        swapcontext(&unused, &created_from);  // back to `enter`, which comes here by a jump
    }
    for (;;) {
        body();
        leave(State::done);
    }
}

void enter(Fiber *fiber)
{
    if (!fiber->started) {
        fiber->started = true;
        fiber->stack.resize(kStackBytes);
        ucontext_t context;
        getcontext(&context);
        context.uc_stack.ss_sp = fiber->stack.data();
        context.uc_stack.ss_size = kStackBytes;
        context.uc_link = nullptr;
        entering = fiber;
        makecontext(&context, fiber_main, 0);
        swapcontext(&created_from, &context);
    }
    current = fiber;
    threadIdx = fiber->index;
    if (_setjmp(scheduler) == 0) {
        _longjmp(fiber->context, 1);
    }
}

bool all(unsigned from, unsigned to, State state)
{
    for (unsigned i = from; i < to; ++i) {
        if (fibers[i]->state != state && fibers[i]->state != State::done) {
            return false;
        }
    }
    return true;
}

bool release(unsigned from, unsigned to, State state)
{
    bool any = false;
    for (unsigned i = from; i < to; ++i) {
        if (fibers[i]->state == state) {
            fibers[i]->state = State::ready;
            any = true;
        }
    }
    return any;
}

bool backward()
{
    const char *order = std::getenv("TS_EMULATED_ORDER");
    return order != nullptr && std::string(order) == "backward";
}

extern "C" char __start_emulated_shared[] __attribute__((weak));
extern "C" char __stop_emulated_shared[] __attribute__((weak));

void run_block(unsigned threads)
{
    if (__start_emulated_shared != nullptr) {
        std::memset(__start_emulated_shared, 0xA5, __stop_emulated_shared - __start_emulated_shared);
    }
    const bool reversed = backward();
    for (;;) {
        for (unsigned i = 0; i < threads; ++i) {
            current_number = reversed ? threads - 1 - i : i;
            if (fibers[current_number]->state == State::ready) {
                enter(fibers[current_number]);
            }
        }
        if (all(0, threads, State::done)) {
            return;
        }
        bool moved = false;
        for (unsigned w = 0; w < threads; w += kWarp) {
            const unsigned end = w + kWarp < threads ? w + kWarp : threads;
            moved |= all(w, end, State::at_warp_barrier) && release(w, end, State::at_warp_barrier);
        }
        moved |= all(0, threads, State::at_block_barrier) && release(0, threads, State::at_block_barrier);
        if (!moved) {
            std::fprintf(stderr, "the threads of a block wait at different barriers\n");
            std::abort();
        }
    }
}

using Call = std::function<void(void **)>;

template <class... P, size_t... I>
Call unpacked(void (*kernel)(P...), std::index_sequence<I...>)
{
    return [kernel](void **parameters) { kernel(*(P *)parameters[I]...); };
}
template <class... P> Call kernel_call(void (*kernel)(P...))
{
    return unpacked(kernel, std::index_sequence_for<P...>());
}

struct Launch {
    const Call *call;
    emulated_index grid, block;
    std::vector<uint64_t> values;
};

void run_launch(Launch launch)
{
    std::vector<void *> parameters;
    for (uint64_t &value : launch.values) {
        parameters.push_back(&value);
    }
    body = [&] { (*launch.call)(parameters.data()); };
    const emulated_index b = launch.block;
    const unsigned threads = b.x * b.y * b.z;
    while (fibers.size() < threads) {
        fibers.push_back(new Fiber);
    }
    slots.assign((threads + kWarp - 1) / kWarp * kWarp, 0);
    for (blockIdx.z = 0; blockIdx.z < launch.grid.z; ++blockIdx.z) {
        for (blockIdx.y = 0; blockIdx.y < launch.grid.y; ++blockIdx.y) {
            for (blockIdx.x = 0; blockIdx.x < launch.grid.x; ++blockIdx.x) {
                for (unsigned i = 0; i < threads; ++i) {
                    fibers[i]->index = {i % b.x, i / b.x % b.y, i / (b.x * b.y)};
                    fibers[i]->state = State::ready;
                }
                run_block(threads);
            }
        }
    }
}

int setting(const char *name, int fallback)
{
    const char *text = std::getenv(name);
    return text != nullptr ? std::atoi(text) : fallback;
}
}  // namespace

void emulated_block_barrier() { leave(State::at_block_barrier); }
void emulated_warp_barrier() { leave(State::at_warp_barrier); }
unsigned emulated_lane() { return current_number % kWarp; }
uint64_t *emulated_slots() { return &slots[current_number / kWarp * kWarp]; }

#include KERNELS

namespace {
struct Function {
    Call call;
    size_t parameters;
};

template <class... P> size_t count(void (*)(P...)) { return sizeof...(P); }

std::map<std::string, Function> functions = {
#define KERNEL(name) {#name, {kernel_call(name), count(name)}},
#include KERNEL_LIST
#undef KERNEL
};
std::vector<Launch> *recording;
}  // namespace

extern "C" {
enum { kSuccess = 0, kInvalid = 1, kNoDevice = 100, kNotFound = 500, kUnsupported = 801 };

int cuInit(unsigned) { return setting("TS_EMULATED_DEVICES", 1) > 0 ? kSuccess : kNoDevice; }
int cuDeviceGetCount(int *n) { *n = setting("TS_EMULATED_DEVICES", 1); return kSuccess; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return kSuccess; }
int cuDeviceGetAttribute(int *value, int attribute, int)
{
    const char *text = std::getenv("TS_EMULATED_CAPABILITY");
    int major = 9, minor = 0;
    if (text != nullptr && std::sscanf(text, "%d.%d", &major, &minor) != 2) {
        return kInvalid;
    }
    *value = attribute == 75 ? major : minor;
    return attribute == 75 || attribute == 76 ? kSuccess : kInvalid;
}
int cuDevicePrimaryCtxRetain(void **context, int) { *context = &functions; return kSuccess; }
int cuDevicePrimaryCtxRelease_v2(int) { return kSuccess; }
int cuCtxSetCurrent(void *context) { return context == &functions ? kSuccess : kInvalid; }
int cuModuleLoadData(void **module, const void *image)
{
    *module = &functions;
    return std::memcmp(image, "\177ELF", 4) == 0 ? kSuccess : kInvalid;
}
int cuModuleUnload(void *) { return kSuccess; }
int cuModuleGetFunction(const void **function, void *, const char *name)
{
    const auto found = functions.find(name);
    *function = found == functions.end() ? nullptr : &found->second;
    return found == functions.end() ? kNotFound : kSuccess;
}
int cuMemAlloc_v2(uint64_t *pointer, size_t bytes)
{
    void *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(data, 0xCD, bytes);
    *pointer = (uint64_t)(uintptr_t)data;
    return bytes > 0 ? kSuccess : kInvalid;
}
int cuMemFree_v2(uint64_t pointer) { std::free((void *)(uintptr_t)pointer); return kSuccess; }
int cuMemHostRegister_v2(void *, size_t, unsigned) { return kSuccess; }
int cuMemHostUnregister(void *) { return kSuccess; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t n, void *) { std::memcpy((void *)(uintptr_t)to, from, n); return kSuccess; }
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, void *) { std::memcpy(to, (void *)(uintptr_t)from, n); return kSuccess; }
int cuStreamCreate(void **stream, unsigned) { *stream = &fibers; return kSuccess; }
int cuStreamDestroy_v2(void *) { return kSuccess; }
int cuStreamSynchronize(void *) { return kSuccess; }
int cuLaunchKernel(const void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                   unsigned by, unsigned bz, unsigned shared, void *, void **parameters, void **)
{
    const Function *f = (const Function *)function;
    if (shared != 0 || bx * by * bz == 0 || bx * by * bz > 1024 || gy > 65535 || gz > 65535) {
        return kInvalid;
    }
    Launch launch{&f->call, {gx, gy, gz}, {bx, by, bz}, {}};
    for (size_t i = 0; i < f->parameters; ++i) {
        launch.values.push_back(*(uint64_t *)parameters[i]);
    }
    if (recording != nullptr) {
        recording->push_back(launch);
    } else {
        run_launch(launch);
    }
    return kSuccess;
}
int cuStreamBeginCapture_v2(void *, int)
{
    if (setting("TS_EMULATED_GRAPHS", 1) == 0) {
        return kUnsupported;
    }
    recording = new std::vector<Launch>;
    return kSuccess;
}
int cuStreamEndCapture(void *, void **graph) { *graph = recording; recording = nullptr; return kSuccess; }
int cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long)
{
    *exec = new std::vector<Launch>(*(std::vector<Launch> *)graph);
    return kSuccess;
}
int cuGraphLaunch(void *exec, void *)
{
    for (const Launch &launch : *(std::vector<Launch> *)exec) {
        run_launch(launch);
    }
    return kSuccess;
}
int cuGraphDestroy(void *graph) { delete (std::vector<Launch> *)graph; return kSuccess; }
int cuGraphExecDestroy(void *exec) { delete (std::vector<Launch> *)exec; return kSuccess; }
int cuGetErrorString(int error, const char **text)
{
    *text = error == kNoDevice ? "no CUDA-capable device is detected" : "emulated failure";
    return kSuccess;
}
}
