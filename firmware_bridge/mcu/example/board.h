/* What the reference firmware needs of a board. Weak stand-ins for all of it are in main.c; the
 * host build has its own in host_main.c. None may block for longer than a few milliseconds;
 * what flash may take is in flash.h. */
#ifndef BOARD_H
#define BOARD_H

#include "medge_link.h"

#define BOARD_CHANNELS 2u
#define BOARD_RATE_MHZ 250000u

/* Microseconds since boot, from a 64 bit count: it never wraps and never goes back. */
uint64_t board_now_us(void);

/* The next received byte, or -1. */
int board_read(void);

/* Queue bytes for sending: 1 if all of them were taken, 0 if none was. */
int board_write(const uint8_t *bytes, size_t n);

/* Drive light, sounder and line. The line's pin must be active when it is not driven. */
void board_alarm(const medge_alarm_t *alarm);

/* What the line reads back as (enum medge_line). */
uint8_t board_line(void);

/* Sensor fault bits: bit 0 is lead off on channel 1, and so on. */
uint16_t board_faults(void);

/* 1, one count of each channel and when it was taken, if the converter has a sample, else 0. */
int board_sample(int32_t counts[BOARD_CHANNELS], uint64_t *taken_us);

/* How many samples the converter has lost since boot. */
uint32_t board_lost_samples(void);

/* Keep the hardware watchdog (at most 100 ms) from resetting the board. */
void board_watchdog(void);

/* Reset; does not return on hardware. */
void board_reset(void);

/* Which image slot runs. */
uint8_t board_slot(void);

/* Who this is, why it was reset, and a number that differs from that of the boot before. */
uint32_t board_identity(medge_hello_t *identity);

#endif
