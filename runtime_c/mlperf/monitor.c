/* The commands of the MLPerf Tiny runner, one at a time, each ended by '%' and answered up to
 * "m-ready": name, timestamp, profile, help, db, infer, results. Performance and accuracy mode. */
#include <string.h>

#include "harness.h"
#include "th_api.h"
#include "th_config.h"

enum { COMMAND_BYTES = 80, WORDS = 4, DEFAULT_WARM_UPS = 10, BYTES_PER_LINE = 8 };

static uint8_t loaded[TH_BUFFER_BYTES];
static uint32_t expected, present;

typedef struct {
    char *word[WORDS];
    uint32_t count;
} words;

size_t ee_get_buffer(uint8_t *to, size_t bytes)
{
    const size_t count = bytes < present ? bytes : present;
    memcpy(to, loaded, count);
    return count;
}

uint8_t *ee_get_buffer_pointer(void)
{
    return loaded;
}

/* A decimal number, or -1. */
static int32_t number(const char *text)
{
    int32_t value = 0;
    const char *c = text;
    for (; *c >= '0' && *c <= '9' && value < 100000000; ++c) {
        value = value * 10 + (*c - '0');
    }
    return *c == '\0' && c != text ? value : -1;
}

static int hex(char c)
{
    const char *const digits = "0123456789abcdef";
    const char lower = (char)(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
    const char *const found = lower == '\0' ? NULL : strchr(digits, lower);
    return found == NULL ? -1 : (int)(found - digits);
}

static void load(const words *given)
{
    const int32_t bytes = given->count > 2 ? number(given->word[2]) : -1;
    expected = 0;
    present = 0;
    if (given->count < 3) {
        th_printf("e-[Command 'db load' requires the # of bytes]\r\n");
    } else if (bytes <= 0) {
        th_printf("e-[Command 'db load' must be >0 bytes]\r\n");
    } else if ((uint32_t)bytes > sizeof loaded) {
        th_printf("e-[Supplied buffer size %d exceeds maximum of %d]\r\n", (int)bytes,
                  (int)sizeof loaded);
    } else {
        expected = (uint32_t)bytes;
        th_printf("m-[Expecting %d bytes]\r\n", (int)bytes);
    }
}

static void append(const char *digits)
{
    const size_t count = strlen(digits);
    if (count % 2 != 0) {
        th_printf("e-[Insufficent number of hex digits]\r\n"); /* spelled as the runner knows it */
        return;
    }
    for (size_t i = 0; i < count && present < expected; i += 2) {
        const int high = hex(digits[i]), low = hex(digits[i + 1]);
        if (high < 0 || low < 0) {
            th_printf("e-[Invalid hex digit '%c%c']\r\n", digits[i], digits[i + 1]);
            return;
        }
        loaded[present++] = (uint8_t)(high << 4 | low);
        if (present == expected) {
            th_printf("m-load-done\r\n");
        }
    }
}

static void print(void)
{
    for (uint32_t i = 0; i < expected; ++i) {
        const int last = (i + 1) % BYTES_PER_LINE == 0 || i + 1 == expected;
        th_printf("%s%02x%s", i % BYTES_PER_LINE == 0 ? "m-buffer-" : "", loaded[i],
                  last ? "\r\n" : "-");
    }
}

static void buffer(const words *given)
{
    if (given->count < 2) {
        th_printf("e-[Command 'db' requires a subcommand]\r\n");
    } else if (strcmp(given->word[1], "load") == 0) {
        load(given);
    } else if (strcmp(given->word[1], "print") == 0) {
        print();
    } else {
        append(given->word[1]);
    }
}

static void infer(const words *given)
{
    const int32_t runs = given->count > 1 ? number(given->word[1]) : 1;
    const int32_t warm_ups = given->count > 2 ? number(given->word[2]) : DEFAULT_WARM_UPS;
    if (runs <= 0) {
        th_printf("e-[Inference iterations must be >0]\r\n");
    } else if (warm_ups < 0) {
        th_printf("e-[Inference warmup must be >=0]\r\n");
    } else if (present != TH_BUFFER_BYTES) { /* never a result of half an input */
        th_printf("e-[%d bytes are loaded, the model takes %d]\r\n", (int)present,
                  (int)TH_BUFFER_BYTES);
    } else {
        th_load_tensor();
        th_printf("m-warmup-start-%d\r\n", (int)warm_ups);
        for (int32_t i = 0; i < warm_ups; ++i) {
            th_infer();
        }
        th_printf("m-warmup-done\r\nm-infer-start-%d\r\n", (int)runs);
        th_timestamp();
        th_pre();
        for (int32_t i = 0; i < runs; ++i) {
            th_infer();
        }
        th_post();
        th_timestamp();
        th_printf("m-infer-done\r\n");
        th_results();
    }
}

static void help(void)
{
    th_printf("name              the device\r\ntimestamp         microseconds since the start\r\n"
              "profile           firmware and model\r\ndb load N         expect N bytes\r\n"
              "db HH[HH]*        load them, hexadecimal\r\ndb print          print them\r\n"
              "infer N [W=10]    infer N times after W warm-ups\r\nresults           the outputs\r\n");
}

static void carry_out(const words *given)
{
    const char *const name = given->count > 0 ? given->word[0] : "";
    if (strcmp(name, "name") == 0) {
        th_printf("m-name-dut-[%s]\r\n", TH_VENDOR_NAME_STRING);
    } else if (strcmp(name, "timestamp") == 0) {
        th_timestamp();
    } else if (strcmp(name, "profile") == 0) {
        th_printf("m-profile-[ULPMark for tinyML Firmware V0.0.1]\r\nm-model-[%s]\r\n",
                  TH_MODEL_VERSION);
    } else if (strcmp(name, "help") == 0) {
        help();
    } else if (strcmp(name, "db") == 0) {
        buffer(given);
    } else if (strcmp(name, "infer") == 0) {
        infer(given);
    } else if (strcmp(name, "results") == 0) {
        th_results();
    } else {
        th_printf("e-[Unknown command: %s]\r\n", name);
    }
    th_printf("m-ready\r\n");
}

static words split(char *command)
{
    words found = {.count = 0};
    for (char *c = command; *c != '\0' && found.count < WORDS;) {
        while (*c == ' ' || *c == '\r' || *c == '\n') {
            *c++ = '\0';
        }
        if (*c != '\0') {
            found.word[found.count++] = c;
        }
        while (*c != '\0' && *c != ' ' && *c != '\r' && *c != '\n') {
            ++c;
        }
    }
    return found;
}

int main(void)
{
    static char command[COMMAND_BYTES + 1];
    th_serialport_initialize();
    th_timestamp_initialize();
    th_final_initialize();
    th_printf("m-init-done\r\nm-ready\r\n");
    for (uint32_t bytes = 0;;) {
        const char c = th_getchar();
        if (c == '%') {
            command[bytes] = '\0';
            bytes = 0;
            const words given = split(command);
            carry_out(&given);
        } else {
            command[bytes] = c;
            bytes += bytes < COMMAND_BYTES ? 1u : 0u;
        }
    }
}
