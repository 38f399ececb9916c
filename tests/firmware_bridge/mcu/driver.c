/* Drives medge_link.c from lines on stdin, in virtual time; one line out for each line in.
 *
 *   i SESSION           start          t US      let time come to US      r HEX   receive bytes
 *   n US                let time come to US unnoticed
 *   h                   halt           H         make a hello
 *   B PERIOD READ FAULTS DS DF         make a heartbeat
 *   S STREAM CH WIDTH COUNT FAULTS MHZ AGE FIRST COUNTS...                make samples
 *   c HEX  crc          e HEX  stuff   d HEX  unstuff
 *   L      layout text  Z      sizes
 *
 * Those on the first five lines answer "STATE LEVEL SOUND LINE REJECTS BYTES". Buffers are exactly
 * as long as they must be, so that a sanitizer sees one byte too many.
 */
#include "medge_link.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LINE 4000000u

#define TEXT_NUMBER(name) printf(#name " %s|", TEXT_OF(MEDGE_##name));
#define TEXT_OF(x) TEXT_OF_(x)
#define TEXT_OF_(x) #x
#define TEXT_FIELD(type, name) printf(" " #type " " #name ";");
#define TEXT_MESSAGE(NAME, name, code, tail) printf(" " #NAME " " #name " " #code " " #tail ";");
#define TEXT_ENUM(name, value) printf(" " #name " " #value ";");
#define TEXT_LIST(NAME, kind, item) printf(#NAME " " kind); MEDGE_##NAME(item) printf("|");
#define TEXT_FIELDS(NAME, name, code, tail) TEXT_LIST(NAME, "F", TEXT_FIELD)

static medge_link_t link;
static uint64_t now_us;

static size_t from_hex(const char *hex, uint8_t **bytes)
{
    const size_t n = strspn(hex, "0123456789abcdef") / 2u;
    *bytes = malloc(n);
    for (size_t i = 0; i < n; i++) {
        unsigned int byte;
        (void)sscanf(&hex[2u * i], "%2x", &byte);
        (*bytes)[i] = (uint8_t)byte;
    }
    return n;
}

static void put_hex(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        printf("%02x", bytes[i]);
    }
}

static void put_state(void)
{
    const medge_alarm_t alarm = medge_link_alarm(&link);
    printf("%u %u %u %u %" PRIu32 " ", link.state, alarm.level, alarm.sound, alarm.line,
           link.rejects);
}

static void start(const char *arguments)
{
    medge_hello_t identity;
    memset(&identity, 0, sizeof(identity));
    identity.device_id = 0x1122334455667788u;
    identity.fw_major = 1;
    identity.fw_minor = 2;
    identity.fw_revision = 3;
    identity.fw_build = 4;
    identity.reset_cause = MEDGE_RESET_POWER_ON;
    medge_link_init(&link, (uint32_t)strtoul(arguments, NULL, 10), &identity);
    put_state();
}

static void receive(const char *hex)
{
    uint8_t *bytes;
    uint8_t *out = malloc(MEDGE_MAX_ENCODED);
    const size_t n = from_hex(hex, &bytes);
    char *answers = malloc(1);
    size_t answered = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t size = medge_link_feed(&link, bytes[i], now_us, out);
        answers = realloc(answers, answered + size + 1u);
        memcpy(&answers[answered], out, size);
        answered += size;
    }
    put_state();
    put_hex((const uint8_t *)answers, answered);
    free(answers);
    free(out);
    free(bytes);
}

static void make(char what, const char *arguments)
{
    uint8_t *out = malloc(MEDGE_MAX_ENCODED);
    uint64_t n[8] = {0};
    size_t size = 0;
    char *at;
    for (size_t i = 0; i < 8u; i++) {
        n[i] = strtoull(arguments, &at, 10);
        arguments = at;
    }
    if (what == 'H') {
        size = medge_link_hello(&link, now_us, out);
    } else if (what == 'B') {
        const medge_beat_t beat = {.period_ms = (uint16_t)n[0],
                                   .line_read = (uint8_t)n[1],
                                   .faults = (uint16_t)n[2],
                                   .dropped_samples = (uint32_t)n[3],
                                   .dropped_frames = (uint32_t)n[4]};
        size = medge_link_beat(&link, &beat, now_us, out);
    } else {
        const medge_samples_t info = {.stream = (uint8_t)n[0],
                                      .channels = (uint8_t)n[1],
                                      .width = (uint8_t)n[2],
                                      .count = (uint16_t)n[3],
                                      .faults = (uint16_t)n[4],
                                      .rate_mhz = (uint32_t)n[5],
                                      .age_us = (uint32_t)n[6],
                                      .first = n[7]};
        const size_t total = (size_t)info.channels * info.count;
        int32_t *counts = malloc(total * sizeof(*counts));
        for (size_t i = 0; i < total; i++) {
            counts[i] = (int32_t)strtol(arguments, &at, 10);
            arguments = at;
        }
        size = medge_link_samples(&link, &info, counts, now_us, out);
        free(counts);
    }
    put_state();
    put_hex(out, size);
    free(out);
}

static void part(char what, const char *hex)
{
    uint8_t *bytes;
    const size_t n = from_hex(hex, &bytes);
    if (what == 'c') {
        printf("%04x", medge_crc16(bytes, n));
    } else if (what == 'd') {
        const size_t size = medge_cobs_decode(bytes, n);
        put_hex(bytes, size);
    } else {
        /* As frames are: in place, from just far enough behind. */
        const size_t room = MEDGE_COBS_ROOM(n);
        uint8_t *buffer = malloc(n + room);
        memcpy(&buffer[room], bytes, n);
        put_hex(buffer, medge_cobs_encode(buffer, &buffer[room], n));
        free(buffer);
    }
    free(bytes);
}

static void layout(void)
{
    TEXT_NUMBER(WIRE_VERSION)
    TEXT_NUMBER(MAX_TAIL)
    TEXT_NUMBER(BEAT_MIN_MS)
    TEXT_NUMBER(BEAT_MAX_MS)
    TEXT_NUMBER(BEATS_MISSED)
    TEXT_NUMBER(PAUSE_MAX_MS)
    TEXT_LIST(HEADER, "F", TEXT_FIELD)
    TEXT_LIST(TO_HOST, "M", TEXT_MESSAGE)
    TEXT_LIST(TO_MCU, "M", TEXT_MESSAGE)
    MEDGE_TO_HOST(TEXT_FIELDS)
    MEDGE_TO_MCU(TEXT_FIELDS)
    TEXT_LIST(STATES, "E", TEXT_ENUM)
    TEXT_LIST(LEVELS, "E", TEXT_ENUM)
    TEXT_LIST(LINES, "E", TEXT_ENUM)
    TEXT_LIST(ACTIONS, "E", TEXT_ENUM)
    TEXT_LIST(STATUSES, "E", TEXT_ENUM)
    TEXT_LIST(RESETS, "E", TEXT_ENUM)
}

static void obey(char what, const char *arguments)
{
    switch (what) {
    case 'i':
        start(arguments);
        break;
    case 't':
        now_us = strtoull(arguments, NULL, 10);
        medge_link_tick(&link, now_us);
        put_state();
        break;
    case 'n':
        now_us = strtoull(arguments, NULL, 10);
        put_state();
        break;
    case 'r':
        receive(arguments);
        break;
    case 'h':
        medge_link_halt(&link);
        put_state();
        break;
    case 'H':
    case 'B':
    case 'S':
        make(what, arguments);
        break;
    case 'L':
        layout();
        break;
    case 'Z':
        printf("%zu %zu", sizeof(medge_link_t), (size_t)MEDGE_MAX_ENCODED);
        break;
    default:
        part(what, arguments);
        break;
    }
    printf("\n");
    fflush(stdout);
}

int main(void)
{
    char *line = malloc(MAX_LINE);
    start("1");
    printf("\n");
    fflush(stdout);
    while (fgets(line, (int)MAX_LINE, stdin) != NULL) {
        obey(line[0], (line[0] != '\0' && line[1] != '\0') ? &line[2] : "");
    }
    free(line);
    return 0;
}
