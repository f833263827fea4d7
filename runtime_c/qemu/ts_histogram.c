/* A QEMU plugin that counts how often every block of a program runs, in windows: from a start
 * address to a stop address. A tool of the host, not part of any firmware: it may use malloc.
 *
 *   -plugin libts_histogram.so,out=FILE,start=ADDRESS,…,stop=ADDRESS,…
 *
 * FILE gets a line for each block that ran in a window, "first end count taken": its addresses
 * [first, end), how often it ran, how often it did not go on to the instruction behind it; then
 * the line "stop ADDRESS". Addresses are hexadecimal, and must begin a block: the entry of a
 * function, or where one returns to.
 *
 * The declarations are QEMU's documented plugin interface; Debian ships no header for it. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef TS_PLUGIN_VERSION
#define TS_PLUGIN_VERSION 1
#endif

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { NO_REGISTERS };
typedef void (*block_made)(qemu_plugin_id_t id, struct qemu_plugin_tb *block);
typedef void (*executed)(unsigned int cpu, void *data);

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, block_made callback);
extern void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *block, executed callback, int flags, void *data);
extern void qemu_plugin_register_vcpu_insn_exec_cb(
    struct qemu_plugin_insn *instruction, executed callback, int flags, void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(
    const struct qemu_plugin_tb *block, size_t index);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *instruction);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *instruction);

#define EXPORT __attribute__((visibility("default")))
EXPORT extern int qemu_plugin_version;
EXPORT int qemu_plugin_version = TS_PLUGIN_VERSION;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);

typedef struct block {
    struct block *next;
    uint64_t first, end, count, taken;
} block;

enum { MAX_MARKS = 4096 };
typedef struct {
    uint64_t address;
    bool starts;
} mark;

static mark marks[MAX_MARKS];
static size_t mark_count;
static block *blocks, *current;
static FILE *out;
static bool open_window; /* a start inside a window is a loop that begins there */

static void on_block(unsigned int cpu, void *data)
{
    block *entered = data;
    (void)cpu;
    if (current != NULL && current->end != entered->first) {
        ++current->taken;
    }
    ++entered->count;
    current = entered;
}

static void clear(void)
{
    for (block *b = blocks; b != NULL; b = b->next) {
        b->count = 0;
        b->taken = 0;
    }
}

static void on_mark(unsigned int cpu, void *data)
{
    const mark *reached = data;
    (void)cpu;
    if (reached->starts && open_window) {
        return;
    }
    --current->count; /* it has only been entered */
    if (open_window) {
        for (const block *b = blocks; b != NULL; b = b->next) {
            if (b->count != 0) {
                fprintf(out, "%" PRIx64 " %" PRIx64 " %" PRIu64 " %" PRIu64 "\n", b->first, b->end,
                    b->count, b->taken);
            }
        }
        fprintf(out, "stop %" PRIx64 "\n", reached->address);
        fflush(out);
    }
    clear();
    open_window = reached->starts;
    current->count = open_window ? 1 : 0;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *made)
{
    const size_t n = qemu_plugin_tb_n_insns(made);
    struct qemu_plugin_insn *first = qemu_plugin_tb_get_insn(made, 0);
    const struct qemu_plugin_insn *last = qemu_plugin_tb_get_insn(made, n - 1);
    block *b = calloc(1, sizeof *b);
    (void)id;
    if (b == NULL) {
        abort();
    }
    b->first = qemu_plugin_insn_vaddr(first);
    b->end = qemu_plugin_insn_vaddr(last) + qemu_plugin_insn_size(last);
    b->next = blocks;
    blocks = b;
    qemu_plugin_register_vcpu_tb_exec_cb(made, on_block, NO_REGISTERS, b);
    for (size_t i = 0; i < mark_count; ++i) {
        if (marks[i].address == b->first) {
            qemu_plugin_register_vcpu_insn_exec_cb(first, on_mark, NO_REGISTERS, &marks[i]);
        }
    }
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; ++i) {
        const char *value = strchr(argv[i], '=');
        const bool starts = strncmp(argv[i], "start=", 6) == 0;
        if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(value + 1, "w");
        } else if (value != NULL && mark_count < MAX_MARKS &&
                   (starts || strncmp(argv[i], "stop=", 5) == 0)) {
            marks[mark_count++] = (mark){strtoull(value + 1, NULL, 16), starts};
        } else {
            return 1;
        }
    }
    if (out == NULL) {
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    return 0;
}
