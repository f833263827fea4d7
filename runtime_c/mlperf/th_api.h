/* The functions of the MLPerf Tiny API around the compiled model: `th_` for what a submitter
 * implements, `ee_` for what the benchmark's own sources do, under their published names. */
#ifndef TH_API_H
#define TH_API_H

#include <stddef.h>
#include <stdint.h>

void th_serialport_initialize(void);
void th_timestamp_initialize(void);
void th_final_initialize(void);
void th_load_tensor(void); /* what `db` loaded, as the model takes it */
void th_infer(void);
void th_results(void);
void th_pre(void);
void th_post(void);
void th_timestamp(void); /* prints microseconds since the start; in energy mode an edge on a pin */
char th_getchar(void);

/* d, i, u, x and X (also with l and z), c, s, and f with at most 6 decimals; widths and zeros. */
__attribute__((format(printf, 1, 2))) void th_printf(const char *format, ...);

/* What `db` loaded so far: copies at most `bytes` and returns how many. */
size_t ee_get_buffer(uint8_t *to, size_t bytes);
uint8_t *ee_get_buffer_pointer(void);

#endif
