/* The link between a host and a microcontroller: the only definition of its bytes, and its C side.
 *
 * Owns frames, who is alive, and what the alarm hardware must show. Does no I/O, reads no clock,
 * allocates nothing: the caller brings bytes and microseconds since boot, and sends what it is
 * given. One context only: calls from an interrupt and from the main loop must not mix, and times
 * must not go back from one call to the next (a host takes that for a restart).
 *
 * A frame is COBS(header, body, crc) then 00. Every number is little-endian. The crc is
 * CRC-16/X-25 (reflected 0x1021, init and xor FFFF, "123456789" gives 906E), low byte first: the
 * order in which a UART sends bits. `t_us` is the sender's time since it started, `session` is
 * another number after each start, `seq` goes up by one with every frame.
 *
 * The alarm: a host that is not proved alive is a dead host. Outside RUN the alarm is at its
 * highest, it sounds, and the line is active. Only RUN with level OFF makes the line quiet, so that
 * a dead host, a cut cable, a corrupted frame, a reset and a power loss all mean alarm (wire the
 * line so that an undriven pin is active). There is no grace after boot: until the host has shown
 * three good heartbeats, nobody is being watched. On entering RUN the alarm stays at its
 * highest until the host sets a level. Pausing silences the sound only, never the line.
 *
 * HELLO is the first frame after boot, and the answer to HELLO_REQUEST; `layout` is its first field
 * in every version. BEAT: `period_ms` is the sender's own; `faults` are sensor fault bits, of which
 * the firmware says what they mean; `line_read` is what the line's pin reads back as; `rejects` are
 * frames refused and `dropped_*` what could not be sent, since boot; `host_beat` is the last number
 * taken. SAMPLES: `first` numbers the first sample since boot, lost ones counted too, and `age_us`
 * is how long before `t_us` it was taken; then come the counts, `[count][channels]`, in two's
 * complement of `width` bytes. HOST_BEAT: `beat` must go up; three missed (of `period_ms` each)
 * mean SAFE. COMMAND: `id` must go up, and the same id again is not done again.
 *
 * The part between "wire begin" and "wire end" is read by protocol.py. MEDGE_LAYOUT_HASH is that of
 * the part itself: after a change, protocol.py refuses the file and says what the hash is now.
 */
#ifndef MEDGE_LINK_H
#define MEDGE_LINK_H

#include <stddef.h>
#include <stdint.h>

/* wire begin */
#define MEDGE_WIRE_VERSION 1
#define MEDGE_LAYOUT_HASH 0x9E4784AF
#define MEDGE_MAX_TAIL 432
#define MEDGE_BEAT_MIN_MS 20
#define MEDGE_BEAT_MAX_MS 1000
#define MEDGE_BEATS_MISSED 3
#define MEDGE_PAUSE_MAX_MS 120000

#define MEDGE_HEADER(F) \
    F(u8, version) \
    F(u8, type) \
    F(u16, seq) \
    F(u32, session) \
    F(u64, t_us)

#define MEDGE_TO_HOST(M) \
    M(HELLO, hello, 0x01, NONE) \
    M(BEAT, beat, 0x02, NONE) \
    M(TIME_REPLY, time_reply, 0x03, NONE) \
    M(ACK, ack, 0x04, NONE) \
    M(SAMPLES, samples, 0x05, COUNTS)

#define MEDGE_TO_MCU(M) \
    M(HELLO_REQUEST, hello_request, 0x81, NONE) \
    M(HOST_BEAT, host_beat, 0x82, NONE) \
    M(TIME_REQUEST, time_request, 0x83, NONE) \
    M(COMMAND, command, 0x84, NONE)

#define MEDGE_HELLO(F) \
    F(u32, layout) \
    F(u64, device_id) \
    F(u8, fw_major) \
    F(u8, fw_minor) \
    F(u16, fw_revision) \
    F(u32, fw_build) \
    F(u8, reset_cause)

#define MEDGE_BEAT(F) \
    F(u16, period_ms) \
    F(u8, reset_cause) \
    F(u8, state) \
    F(u8, level) \
    F(u8, sound) \
    F(u8, line) \
    F(u8, line_read) \
    F(u16, faults) \
    F(u32, dropped_samples) \
    F(u32, dropped_frames) \
    F(u32, rejects) \
    F(u32, host_beat)

#define MEDGE_TIME_REPLY(F) \
    F(u32, token)

#define MEDGE_ACK(F) \
    F(u16, id) \
    F(u8, action) \
    F(u8, status) \
    F(u8, level) \
    F(u8, state)

#define MEDGE_SAMPLES(F) \
    F(u8, stream) \
    F(u8, channels) \
    F(u8, width) \
    F(u16, count) \
    F(u16, faults) \
    F(u32, rate_mhz) \
    F(u32, age_us) \
    F(u64, first)

#define MEDGE_HELLO_REQUEST(F) \
    F(u32, layout)

#define MEDGE_HOST_BEAT(F) \
    F(u32, layout) \
    F(u32, beat) \
    F(u16, period_ms)

#define MEDGE_TIME_REQUEST(F) \
    F(u32, token)

#define MEDGE_COMMAND(F) \
    F(u16, id) \
    F(u8, action) \
    F(u32, argument)

#define MEDGE_STATES(E) \
    E(STATE_BOOT, 0) \
    E(STATE_SAFE, 1) \
    E(STATE_TRUST_1, 2) \
    E(STATE_TRUST_2, 3) \
    E(STATE_RUN, 4)

#define MEDGE_LEVELS(E) \
    E(LEVEL_OFF, 0) \
    E(LEVEL_LOW, 1) \
    E(LEVEL_MEDIUM, 2) \
    E(LEVEL_HIGH, 3)

#define MEDGE_LINES(E) \
    E(LINE_QUIET, 0) \
    E(LINE_ACTIVE, 1) \
    E(LINE_UNKNOWN, 2)

#define MEDGE_ACTIONS(E) \
    E(ACTION_SET_LEVEL, 1) \
    E(ACTION_PAUSE_SOUND, 2)

#define MEDGE_STATUSES(E) \
    E(STATUS_DONE, 0) \
    E(STATUS_UNKNOWN_ACTION, 1) \
    E(STATUS_BAD_ARGUMENT, 2) \
    E(STATUS_NOT_RUNNING, 3) \
    E(STATUS_STALE, 4)

#define MEDGE_RESETS(E) \
    E(RESET_UNKNOWN, 0) \
    E(RESET_POWER_ON, 1) \
    E(RESET_PIN, 2) \
    E(RESET_WATCHDOG, 3) \
    E(RESET_SOFTWARE, 4) \
    E(RESET_BROWN_OUT, 5) \
    E(RESET_FAULT, 6)
/* wire end */

typedef uint8_t medge_u8;
typedef uint16_t medge_u16;
typedef uint32_t medge_u32;
typedef uint64_t medge_u64;

/* Enumerators are MEDGE_STATE_BOOT and so on. */
#define MEDGE_ENUM(name, value) MEDGE_##name = (value),
enum medge_state { MEDGE_STATES(MEDGE_ENUM) MEDGE_STATE_COUNT };
enum medge_level { MEDGE_LEVELS(MEDGE_ENUM) MEDGE_LEVEL_COUNT };
enum medge_line { MEDGE_LINES(MEDGE_ENUM) MEDGE_LINE_COUNT };
enum medge_action { MEDGE_ACTIONS(MEDGE_ENUM) MEDGE_ACTION_END };
enum medge_status { MEDGE_STATUSES(MEDGE_ENUM) MEDGE_STATUS_COUNT };
enum medge_reset { MEDGE_RESETS(MEDGE_ENUM) MEDGE_RESET_COUNT };

/* Message types are MEDGE_TYPE_HELLO and so on, their sizes on the wire MEDGE_SIZE_HELLO, the
 * decoded values medge_hello_t. A struct is never laid over wire bytes. */
#define MEDGE_TYPE(NAME, name, code, tail) MEDGE_TYPE_##NAME = (code),
enum medge_type { MEDGE_TO_HOST(MEDGE_TYPE) MEDGE_TO_MCU(MEDGE_TYPE) MEDGE_TYPE_END };

#define MEDGE_FIELD_SIZE(type, name) +sizeof(medge_##type)
#define MEDGE_SIZE(NAME, name, code, tail) MEDGE_SIZE_##NAME = (0u MEDGE_##NAME(MEDGE_FIELD_SIZE)),
enum medge_size {
    MEDGE_SIZE_HEADER = (0u MEDGE_HEADER(MEDGE_FIELD_SIZE)),
    MEDGE_TO_HOST(MEDGE_SIZE) MEDGE_TO_MCU(MEDGE_SIZE) MEDGE_SIZE_CRC = 2
};

#define MEDGE_MEMBER(type, name) medge_##type name;
#define MEDGE_STRUCT(NAME, name, code, tail) \
    typedef struct { \
        MEDGE_##NAME(MEDGE_MEMBER) \
    } medge_##name##_t;
MEDGE_STRUCT(HEADER, header, 0, NONE)
MEDGE_TO_HOST(MEDGE_STRUCT)
MEDGE_TO_MCU(MEDGE_STRUCT)

/* SAMPLES is the longest message; COBS adds one byte and one more for each 254, then comes 00. */
#define MEDGE_MAX_RAW (MEDGE_SIZE_HEADER + MEDGE_SIZE_SAMPLES + MEDGE_MAX_TAIL + MEDGE_SIZE_CRC)
#define MEDGE_COBS_ROOM(n) (1u + ((n) / 254u))
#define MEDGE_MAX_ENCODED (MEDGE_MAX_RAW + MEDGE_COBS_ROOM(MEDGE_MAX_RAW) + 1u)
#define MEDGE_MAX_RECEIVED 32u

/* What the alarm hardware must show. `line` is one of enum medge_line, never LINE_UNKNOWN. */
typedef struct {
    uint8_t level;
    uint8_t sound;
    uint8_t line;
} medge_alarm_t;

/* One link. The members are private. */
typedef struct {
    medge_hello_t identity;
    uint32_t session;
    uint16_t seq;
    uint8_t state;
    uint8_t level;
    uint8_t paused;
    uint8_t command_known;
    uint8_t command_status;
    uint8_t received_len;
    uint16_t command_id;
    uint16_t period_ms;
    uint32_t host_session;
    uint32_t host_beat;
    uint32_t rejects;
    uint64_t beat_us;
    uint64_t pause_us;
    uint64_t pause_length_us;
    uint8_t received[MEDGE_MAX_RECEIVED];
} medge_link_t;

/* Start in BOOT. `session` must differ from that of the boot before (a boot count or a random
 * number); of `identity` everything is used but `layout`. */
void medge_link_init(medge_link_t *link, uint32_t session, const medge_hello_t *identity);

/* Let time pass: the host may be late, a pause may end. Call it at least every 10 ms, and kick the
 * hardware watchdog only from the loop that calls it. */
void medge_link_tick(medge_link_t *link, uint64_t now_us);

/* Take one received byte; returns the size of an answer in `out` to be sent now, or 0. */
size_t medge_link_feed(medge_link_t *link, uint8_t byte, uint64_t now_us,
                       uint8_t out[MEDGE_MAX_ENCODED]);

/* Give up trust in the host at once: its place is taken by a firmware update, say. */
void medge_link_halt(medge_link_t *link);

/* What the alarm hardware must show now. */
medge_alarm_t medge_link_alarm(const medge_link_t *link);

/* Make a HELLO (the first frame after boot), a BEAT, a SAMPLES frame; each returns its size.
 *
 * Of a beat the caller fills in period, line_read, faults and the two drop counts. Counts beyond
 * the rails of `width` bytes (3 or 4) are clipped there, never wrapped; 0 is returned, and nothing
 * made, if they do not fit MEDGE_MAX_TAIL or there are none. */
size_t medge_link_hello(medge_link_t *link, uint64_t now_us, uint8_t out[MEDGE_MAX_ENCODED]);
size_t medge_link_beat(medge_link_t *link, const medge_beat_t *beat, uint64_t now_us,
                       uint8_t out[MEDGE_MAX_ENCODED]);
size_t medge_link_samples(medge_link_t *link, const medge_samples_t *info, const int32_t *counts,
                          uint64_t now_us, uint8_t out[MEDGE_MAX_ENCODED]);

/* The parts of a frame. Encoding writes `n + MEDGE_COBS_ROOM(n)` bytes at most, without the 00, and
 * may run in place if `from` is at least MEDGE_COBS_ROOM(n) behind `to`. Decoding is in place and
 * returns 0 for what is not COBS. */
uint16_t medge_crc16(const uint8_t *data, size_t n);
size_t medge_cobs_encode(uint8_t *to, const uint8_t *from, size_t n);
size_t medge_cobs_decode(uint8_t *data, size_t n);

#endif
