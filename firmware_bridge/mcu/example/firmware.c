/* See firmware.h. The watchdog is kicked here and nowhere else, after the alarm has been driven. */
#include "firmware.h"

#if (MEDGE_WIRE_VERSION == 0x09) || (MEDGE_WIRE_VERSION == 0x14)
#error "link frames of this version would look like SMP lines (smp.h)"
#endif

#define US_PER_MS 1000u
#define MAX_READS 256u

static void drive_alarm(const firmware_t *firmware)
{
    const medge_alarm_t alarm = medge_link_alarm(&firmware->link);
    board_alarm(&alarm);
}

/* Send a frame, or count it lost: the link waits for nothing. */
static int send(firmware_t *firmware, size_t n)
{
    int sent = 0;
    if (n != 0u) {
        /* Link frames would read as noise to whoever updates the firmware. */
        sent = (firmware->updating == 0u) && (board_write(firmware->out, n) != 0);
        firmware->dropped_frames += sent ? 0u : 1u;
    }
    return sent;
}

void firmware_init(firmware_t *firmware, uint8_t active_slot)
{
    static const firmware_t FRESH = {.first = 0};
    static const uint8_t END_OF_NOISE = 0;
    medge_hello_t identity;
    const uint32_t session = board_identity(&identity);
    *firmware = FRESH;
    medge_link_init(&firmware->link, session, &identity);
    smp_init(&firmware->smp, active_slot);
    drive_alarm(firmware);
    (void)board_write(&END_OF_NOISE, 1);
}

static void take_byte(firmware_t *firmware, uint8_t byte, uint64_t now_us)
{
    uint8_t pass[2];
    const size_t passed = smp_feed(&firmware->smp, byte, pass);
    for (size_t i = 0; i < passed; i++) {
        (void)send(firmware, medge_link_feed(&firmware->link, pass[i], now_us, firmware->out));
    }
}

/* Nobody is watched while the firmware is being changed: no trust, and so the alarm. */
static void update(firmware_t *firmware, uint64_t now_us)
{
    if (firmware->smp.message_len != 0u) {
        firmware->update_us = now_us;
        firmware->updating = 1;
    }
    if (firmware->updating == 0u) {
        return;
    }
    medge_link_halt(&firmware->link);
    if ((now_us - firmware->update_us) > ((uint64_t)FIRMWARE_UPDATE_MS * US_PER_MS)) {
        static const uint8_t END_OF_LINES = 0;
        firmware->updating = 0;
        (void)board_write(&END_OF_LINES, 1);
    }
}

/* A part of the update, after the alarm has been driven: no flash is touched while it is quiet. */
static void work(firmware_t *firmware)
{
    smp_work(&firmware->smp);
    if (firmware->smp.reply_len != 0u) {
        (void)board_write(firmware->smp.reply, firmware->smp.reply_len);
    }
    if (firmware->smp.reset_wanted != 0u) {
        board_reset();
    }
}

static void send_samples(firmware_t *firmware, uint64_t now_us)
{
    const uint64_t first = firmware->first + board_lost_samples();
    const medge_samples_t info = {.stream = 1,
                                  .channels = BOARD_CHANNELS,
                                  .width = 3,
                                  .count = firmware->count,
                                  .faults = board_faults(),
                                  .rate_mhz = BOARD_RATE_MHZ,
                                  .age_us = (uint32_t)(now_us - firmware->first_us),
                                  .first = first};
    const size_t n =
        medge_link_samples(&firmware->link, &info, firmware->block, now_us, firmware->out);
    if (send(firmware, n) == 0) {
        firmware->dropped_samples += firmware->count;
    }
    firmware->first += firmware->count;
    firmware->count = 0;
}

static void sample(firmware_t *firmware)
{
    uint64_t taken_us;
    while (board_sample(&firmware->block[firmware->count * BOARD_CHANNELS], &taken_us) != 0) {
        if (firmware->count == 0u) {
            firmware->first_us = taken_us;
        }
        firmware->count++;
        if (firmware->count == FIRMWARE_BLOCK) {
            send_samples(firmware, board_now_us());
        }
    }
}

static void beat(firmware_t *firmware, uint64_t now_us)
{
    const medge_beat_t own = {.period_ms = FIRMWARE_BEAT_MS,
                              .line_read = board_line(),
                              .faults = board_faults(),
                              .dropped_samples =
                                  firmware->dropped_samples + board_lost_samples(),
                              .dropped_frames = firmware->dropped_frames};
    if (now_us < firmware->beat_us) {
        return;
    }
    firmware->beat_us = now_us + ((uint64_t)FIRMWARE_BEAT_MS * US_PER_MS);
    (void)send(firmware, medge_link_beat(&firmware->link, &own, now_us, firmware->out));
}

void firmware_step(firmware_t *firmware)
{
    uint64_t now_us = board_now_us();
    if (firmware->greeted == 0u) {
        firmware->greeted = 1;
        (void)send(firmware, medge_link_hello(&firmware->link, now_us, firmware->out));
    }
    /* No more than so many bytes a round, so that a flood cannot hold up the rest, and none while a
     * message is worked on. */
    for (size_t i = 0; (i < MAX_READS) && (firmware->smp.message_len == 0u); i++) {
        const int byte = board_read();
        if (byte < 0) {
            break;
        }
        now_us = board_now_us();
        take_byte(firmware, (uint8_t)byte, now_us);
    }
    update(firmware, now_us);
    medge_link_tick(&firmware->link, now_us);
    drive_alarm(firmware);
    work(firmware);
    sample(firmware);
    beat(firmware, board_now_us()); /* frames must not go back in time */
    board_watchdog();
}
