/* An SMP (MCUmgr) server: firmware images over the serial console framing, on the link's own port.
 *
 * A line is 06 09 (first) or 04 14 (next), base64, LF; what it carries is a length, an SMP message
 * and a CRC-16/XMODEM, all big-endian. A link frame never starts like that: its first bytes are a
 * COBS code and the version, which is 1. So both share the port, told apart after each 00 or LF.
 *
 * Taking bytes touches no flash: a whole message waits, so that its receiver can get ready, and is
 * then worked on in parts that are short enough for a watchdog.
 *
 * Group 0: echo 0, reset 5, buffer parameters 6. Group 1: image state 0, upload 1, erase 5. */
#ifndef SMP_H
#define SMP_H

#include "boot.h"

#define SMP_BUFFER_BYTES 512u
#define SMP_LINE_BYTES 128u
#define SMP_REPLY_BYTES 768u

typedef struct {
    uint8_t active; /* the slot that runs */
    uint8_t held; /* a byte that may begin a line */
    uint8_t in_line;
    uint8_t at_start;
    uint8_t reset_wanted;
    size_t line_len;
    size_t frame_len;
    uint8_t line[SMP_LINE_BYTES];
    uint8_t frame[SMP_BUFFER_BYTES];
    size_t message_len; /* not 0 while a message waits or is worked on */
    uint32_t erased; /* pages of the other slot; not 0 while they are being erased */
    uint32_t upload_bytes; /* 0 when no upload is under way */
    uint32_t upload_at;
    uint8_t upload_sha[SHA256_BYTES];
    size_t reply_len;
    uint8_t reply[SMP_REPLY_BYTES];
} smp_t;

void smp_init(smp_t *smp, uint8_t active_slot);

/* Take one received byte. Returns how many bytes (0 to 2) in `pass` are the link's, not ours. It is
 * not to be called while a message waits, which is while `message_len` is not 0. */
size_t smp_feed(smp_t *smp, uint8_t byte, uint8_t pass[2]);

/* Do a part of what the waiting message wants: erase one page, or write at most SMP_BUFFER_BYTES and
 * hash both slots. When `reply_len` is not 0 afterwards that was all: `reply` is to be sent, and
 * then `reset_wanted` obeyed. */
void smp_work(smp_t *smp);

#endif
