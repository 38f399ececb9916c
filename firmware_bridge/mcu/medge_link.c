/* The C side of the link; medge_link.h says what it promises. C99, <string.h> for memcpy only. */
#include "medge_link.h"

#include <string.h>

enum event { NEW_HOST, SAME_HOST, LATE, HALT, EVENT_COUNT };

#define BOOT (uint8_t) MEDGE_STATE_BOOT
#define SAFE (uint8_t) MEDGE_STATE_SAFE
#define TRUST_1 (uint8_t) MEDGE_STATE_TRUST_1
#define TRUST_2 (uint8_t) MEDGE_STATE_TRUST_2
#define RUN (uint8_t) MEDGE_STATE_RUN

/* Three good heartbeats of one host in a row lead to RUN; any doubt leads out of it. */
static const uint8_t NEXT[MEDGE_STATE_COUNT][EVENT_COUNT] = {
    /*               NEW_HOST SAME_HOST LATE  HALT */
    /* BOOT    */ {TRUST_1, TRUST_1, BOOT, SAFE},
    /* SAFE    */ {TRUST_1, TRUST_1, SAFE, SAFE},
    /* TRUST_1 */ {TRUST_1, TRUST_2, SAFE, SAFE},
    /* TRUST_2 */ {TRUST_1, RUN, SAFE, SAFE},
    /* RUN     */ {TRUST_1, RUN, SAFE, SAFE},
};

#define US_PER_MS 1000u
#define INT24_MAX 8388607
#define INT24_MIN (-8388608)

uint16_t medge_crc16(const uint8_t *data, size_t n)
{
    static const uint16_t NIBBLE[16] = {0x0000u, 0x1081u, 0x2102u, 0x3183u, 0x4204u, 0x5285u,
                                        0x6306u, 0x7387u, 0x8408u, 0x9489u, 0xA50Au, 0xB58Bu,
                                        0xC60Cu, 0xD68Du, 0xE70Eu, 0xF78Fu};
    uint32_t crc = 0xFFFFu;
    for (size_t i = 0; i < n; i++) {
        crc ^= data[i];
        crc = (crc >> 4) ^ NIBBLE[crc & 0xFu];
        crc = (crc >> 4) ^ NIBBLE[crc & 0xFu];
    }
    return (uint16_t)(crc ^ 0xFFFFu);
}

size_t medge_cobs_encode(uint8_t *to, const uint8_t *from, size_t n)
{
    size_t code_at = 0;
    size_t at = 1;
    uint8_t code = 1;
    for (size_t i = 0; i < n; i++) {
        const uint8_t byte = from[i];
        if (byte != 0u) {
            to[at] = byte;
            at++;
            code++;
        }
        if ((byte == 0u) || ((code == 0xFFu) && ((i + 1u) < n))) {
            to[code_at] = code;
            code_at = at;
            at++;
            code = 1;
        }
    }
    to[code_at] = code;
    return at;
}

size_t medge_cobs_decode(uint8_t *data, size_t n)
{
    size_t at = 0;
    size_t from = 0;
    while (from < n) {
        const size_t code = data[from];
        if ((code == 0u) || (code > (n - from))) {
            return 0;
        }
        for (size_t i = 1; i < code; i++) {
            data[at] = data[from + i];
            at++;
        }
        from += code;
        if ((code != 0xFFu) && (from < n)) {
            data[at] = 0;
            at++;
        }
    }
    return at;
}

static uint8_t *put(uint8_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8u * i));
    }
    return at + bytes;
}

static uint64_t get(const uint8_t **at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        value |= (uint64_t)(*at)[i] << (8u * i);
    }
    *at += bytes;
    return value;
}

#define PUT(type, name) at = put(at, value->name, sizeof(value->name));
#define ENCODER(NAME, name, code, tail) \
    static uint8_t *put_##name(uint8_t *at, const medge_##name##_t *value) \
    { \
        MEDGE_##NAME(PUT) \
        return at; \
    }
#define GET(type, name) value->name = (medge_##type)get(&at, sizeof(value->name));
#define DECODER(NAME, name, code, tail) \
    static void get_##name(const uint8_t *at, medge_##name##_t *value) \
    { \
        MEDGE_##NAME(GET) \
    }

ENCODER(HEADER, header, 0, NONE)
DECODER(HEADER, header, 0, NONE)
MEDGE_TO_HOST(ENCODER)
MEDGE_TO_MCU(DECODER)

/* Frames are built at this distance, and then encoded in place. */
#define RAW_AT MEDGE_COBS_ROOM(MEDGE_MAX_RAW)

static uint8_t *begin(medge_link_t *link, uint8_t type, uint64_t now_us, uint8_t *out)
{
    medge_header_t header;
    header.version = MEDGE_WIRE_VERSION;
    header.type = type;
    header.seq = link->seq;
    header.session = link->session;
    header.t_us = now_us;
    link->seq++;
    return put_header(&out[RAW_AT], &header);
}

static size_t end(uint8_t *out, uint8_t *at)
{
    size_t n = (size_t)(at - &out[RAW_AT]);
    (void)put(at, medge_crc16(&out[RAW_AT], n), MEDGE_SIZE_CRC);
    n = medge_cobs_encode(out, &out[RAW_AT], n + MEDGE_SIZE_CRC);
    out[n] = 0;
    return n + 1u;
}

static void step(medge_link_t *link, enum event event)
{
    link->state = NEXT[link->state][event];
    if (link->state != RUN) {
        link->level = MEDGE_LEVEL_HIGH;
        link->paused = 0;
    }
}

void medge_link_init(medge_link_t *link, uint32_t session, const medge_hello_t *identity)
{
    static const medge_link_t FRESH = {.state = BOOT,
                                       .level = MEDGE_LEVEL_HIGH,
                                       .period_ms = MEDGE_BEAT_MAX_MS};
    (void)memcpy(link, &FRESH, sizeof(*link));
    link->session = session;
    link->identity = *identity;
    link->identity.layout = MEDGE_LAYOUT_HASH;
}

void medge_link_tick(medge_link_t *link, uint64_t now_us)
{
    const uint64_t patience_us =
        (uint64_t)link->period_ms * ((uint64_t)MEDGE_BEATS_MISSED * US_PER_MS);
    /* A clock that runs backwards makes these differences huge, and so ends trust and pause. */
    if ((now_us - link->beat_us) > patience_us) {
        step(link, LATE);
    }
    if ((now_us - link->pause_us) >= link->pause_length_us) {
        link->paused = 0;
    }
}

void medge_link_halt(medge_link_t *link)
{
    step(link, HALT);
}

medge_alarm_t medge_link_alarm(const medge_link_t *link)
{
    medge_alarm_t alarm;
    alarm.level = link->level;
    alarm.line = (uint8_t)((link->level == (uint8_t)MEDGE_LEVEL_OFF) ? MEDGE_LINE_QUIET
                                                                     : MEDGE_LINE_ACTIVE);
    alarm.sound = ((alarm.line == (uint8_t)MEDGE_LINE_ACTIVE) && (link->paused == 0u)) ? 1u : 0u;
    return alarm;
}

static void take_beat(medge_link_t *link, const medge_header_t *header,
                      const medge_host_beat_t *beat, uint64_t now_us)
{
    const int same = (link->state != BOOT) && (header->session == link->host_session);
    const uint32_t ahead = beat->beat - link->host_beat;
    /* A repeated heartbeat is a stuck buffer, not a live host. */
    if ((beat->layout != (uint32_t)MEDGE_LAYOUT_HASH) || (beat->period_ms < MEDGE_BEAT_MIN_MS) ||
        (beat->period_ms > MEDGE_BEAT_MAX_MS) ||
        (same && ((ahead == 0u) || (ahead > 0x7FFFFFFFu)))) {
        link->rejects++;
        return;
    }
    if (!same) {
        link->command_known = 0;
    }
    link->host_session = header->session;
    link->host_beat = beat->beat;
    link->period_ms = beat->period_ms;
    link->beat_us = now_us;
    step(link, same ? SAME_HOST : NEW_HOST);
}

static uint8_t set_level(medge_link_t *link, uint32_t level)
{
    if (level >= (uint32_t)MEDGE_LEVEL_COUNT) {
        return MEDGE_STATUS_BAD_ARGUMENT;
    }
    if (level > link->level) {
        link->paused = 0;
    }
    link->level = (uint8_t)level;
    return MEDGE_STATUS_DONE;
}

static uint8_t pause_sound(medge_link_t *link, uint32_t length_ms, uint64_t now_us)
{
    if (length_ms > MEDGE_PAUSE_MAX_MS) {
        return MEDGE_STATUS_BAD_ARGUMENT;
    }
    link->paused = (length_ms != 0u) ? 1u : 0u;
    link->pause_us = now_us;
    link->pause_length_us = (uint64_t)length_ms * US_PER_MS;
    return MEDGE_STATUS_DONE;
}

static uint8_t act(medge_link_t *link, const medge_command_t *command, uint64_t now_us)
{
    uint8_t status = MEDGE_STATUS_UNKNOWN_ACTION;
    if (command->action == (uint8_t)MEDGE_ACTION_SET_LEVEL) {
        status = set_level(link, command->argument);
    } else if (command->action == (uint8_t)MEDGE_ACTION_PAUSE_SOUND) {
        status = pause_sound(link, command->argument, now_us);
    } else {
        /* What is not understood changes nothing. */
    }
    return status;
}

/* A command is done once: a repeated id is answered as it was, an older one is stale. */
static uint8_t take_command(medge_link_t *link, const medge_header_t *header,
                            const medge_command_t *command, uint64_t now_us)
{
    const uint16_t ahead = (uint16_t)(command->id - link->command_id);
    if ((link->state != RUN) || (header->session != link->host_session)) {
        return MEDGE_STATUS_NOT_RUNNING;
    }
    if ((link->command_known != 0u) && (ahead == 0u)) {
        return link->command_status;
    }
    if ((link->command_known != 0u) && (ahead > 0x7FFFu)) {
        return MEDGE_STATUS_STALE;
    }
    link->command_known = 1;
    link->command_id = command->id;
    link->command_status = act(link, command, now_us);
    return link->command_status;
}

static size_t answer_command(medge_link_t *link, const medge_header_t *header,
                             const medge_command_t *command, uint64_t now_us, uint8_t *out)
{
    medge_ack_t ack;
    ack.status = take_command(link, header, command, now_us);
    ack.id = command->id;
    ack.action = command->action;
    ack.level = link->level;
    ack.state = link->state;
    return end(out, put_ack(begin(link, MEDGE_TYPE_ACK, now_us, out), &ack));
}

static size_t answer_time(medge_link_t *link, const medge_time_request_t *request, uint64_t now_us,
                          uint8_t *out)
{
    medge_time_reply_t reply;
    reply.token = request->token;
    return end(out, put_time_reply(begin(link, MEDGE_TYPE_TIME_REPLY, now_us, out), &reply));
}

/* A host of another layout is told so by our hello, and cannot be trusted with the alarm. */
static size_t answer_hello(medge_link_t *link, const medge_hello_request_t *request,
                           uint64_t now_us, uint8_t *out)
{
    if (request->layout != (uint32_t)MEDGE_LAYOUT_HASH) {
        medge_link_halt(link);
    }
    return medge_link_hello(link, now_us, out);
}

/* A frame whose check and version hold: what it says, if its type and length are known. */
static size_t take_body(medge_link_t *link, const medge_header_t *header, const uint8_t *at,
                        size_t n, uint64_t now_us, uint8_t *out)
{
    size_t answered = 0;
    medge_link_tick(link, now_us);
    if ((header->type == (uint8_t)MEDGE_TYPE_HOST_BEAT) && (n == (size_t)MEDGE_SIZE_HOST_BEAT)) {
        medge_host_beat_t beat;
        get_host_beat(at, &beat);
        take_beat(link, header, &beat, now_us);
    } else if ((header->type == (uint8_t)MEDGE_TYPE_COMMAND) &&
               (n == (size_t)MEDGE_SIZE_COMMAND)) {
        medge_command_t command;
        get_command(at, &command);
        answered = answer_command(link, header, &command, now_us, out);
    } else if ((header->type == (uint8_t)MEDGE_TYPE_TIME_REQUEST) &&
               (n == (size_t)MEDGE_SIZE_TIME_REQUEST)) {
        medge_time_request_t request;
        get_time_request(at, &request);
        answered = answer_time(link, &request, now_us, out);
    } else if ((header->type == (uint8_t)MEDGE_TYPE_HELLO_REQUEST) &&
               (n == (size_t)MEDGE_SIZE_HELLO_REQUEST)) {
        medge_hello_request_t request;
        get_hello_request(at, &request);
        answered = answer_hello(link, &request, now_us, out);
    } else {
        link->rejects++;
    }
    return answered;
}

/* Whether the last two bytes are the check of those before. MEDGE_ACCEPT_ANY_CRC exists for a
 * control of the tests, which must find that it accepts corrupted frames. */
static int checked(const uint8_t *raw, size_t n)
{
#ifdef MEDGE_ACCEPT_ANY_CRC
    (void)raw;
    (void)n;
    return 1;
#else
    const uint8_t *at = &raw[n];
    return (uint16_t)get(&at, MEDGE_SIZE_CRC) == medge_crc16(raw, n);
#endif
}

static size_t take_frame(medge_link_t *link, uint64_t now_us, uint8_t *out)
{
    medge_header_t header;
    uint8_t *raw = link->received;
    const size_t shortest = (size_t)MEDGE_SIZE_HEADER + (size_t)MEDGE_SIZE_CRC;
    size_t n = 0;
    if (link->received_len <= MEDGE_MAX_RECEIVED) {
        n = medge_cobs_decode(raw, link->received_len);
    }
    if ((n < shortest) || !checked(raw, n - MEDGE_SIZE_CRC)) {
        link->rejects++;
        return 0;
    }
    get_header(raw, &header);
    if (header.version != (uint8_t)MEDGE_WIRE_VERSION) {
        link->rejects++;
        return 0;
    }
    return take_body(link, &header, &raw[MEDGE_SIZE_HEADER], n - shortest, now_us, out);
}

size_t medge_link_feed(medge_link_t *link, uint8_t byte, uint64_t now_us,
                       uint8_t out[MEDGE_MAX_ENCODED])
{
    size_t answered = 0;
    if (byte == 0u) {
        if (link->received_len != 0u) {
            answered = take_frame(link, now_us, out);
        }
        link->received_len = 0;
    } else if (link->received_len < MEDGE_MAX_RECEIVED) {
        link->received[link->received_len] = byte;
        link->received_len++;
    } else {
        link->received_len = MEDGE_MAX_RECEIVED + 1u;
    }
    return answered;
}

size_t medge_link_hello(medge_link_t *link, uint64_t now_us, uint8_t out[MEDGE_MAX_ENCODED])
{
    return end(out, put_hello(begin(link, MEDGE_TYPE_HELLO, now_us, out), &link->identity));
}

size_t medge_link_beat(medge_link_t *link, const medge_beat_t *beat, uint64_t now_us,
                       uint8_t out[MEDGE_MAX_ENCODED])
{
    const medge_alarm_t alarm = medge_link_alarm(link);
    medge_beat_t full = *beat;
    full.reset_cause = link->identity.reset_cause;
    full.state = link->state;
    full.level = alarm.level;
    full.sound = alarm.sound;
    full.line = alarm.line;
    full.rejects = link->rejects;
    full.host_beat = link->host_beat;
    return end(out, put_beat(begin(link, MEDGE_TYPE_BEAT, now_us, out), &full));
}

static int32_t clip24(int32_t count)
{
    int32_t clipped = count;
    if (count > INT24_MAX) {
        clipped = INT24_MAX;
    } else if (count < INT24_MIN) {
        clipped = INT24_MIN;
    } else {
        /* It fits. */
    }
    return clipped;
}

size_t medge_link_samples(medge_link_t *link, const medge_samples_t *info, const int32_t *counts,
                          uint64_t now_us, uint8_t out[MEDGE_MAX_ENCODED])
{
    const size_t n = (size_t)info->count * info->channels;
    uint8_t *at;
    if ((n == 0u) || ((info->width != 3u) && (info->width != 4u)) ||
        (n > ((size_t)MEDGE_MAX_TAIL / info->width))) {
        return 0;
    }
    at = put_samples(begin(link, MEDGE_TYPE_SAMPLES, now_us, out), info);
    for (size_t i = 0; i < n; i++) {
        const int32_t count = (info->width == 3u) ? clip24(counts[i]) : counts[i];
        at = put(at, (uint32_t)count, info->width);
    }
    return end(out, at);
}
