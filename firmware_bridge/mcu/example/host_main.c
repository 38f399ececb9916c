/* The same firmware as a process: its port is a pseudo-terminal, its flash a file, its alarm a line
 * on stdout. What stands in for hardware: a boot loader (boot.c), a watchdog that resets an image
 * which is not confirmed in time, a power supply that can be cut in the middle of a flash write,
 * flash that wears out and takes its time.
 *
 *   host_main --flash FILE --factory IMAGE       make FILE hold IMAGE, confirmed, and end
 *   host_main --flash FILE --port LINK [--cut N] [--wear N] [--erase-ms MS]
 *             [--trial-ms MS] [--noise N]
 *
 * An image's body says how it behaves: the word "behave=" and then good (also if there is none),
 * mute (sends nothing), deaf (neither sends nor receives), stranger (another layout), or broken (a
 * sensor fault). With noise, a bit of every Nth received byte is flipped. Ends with 99 when the
 * power is cut, 3 when no image can be booted.
 *
 * Besides the alarm it tells each boot, each write and erase of its flash before it is done, and
 * the longest time so far between two kicks of the watchdog, each after monotonic microseconds. That
 * time is what this process worked and its pages took to erase, not what others held it up. */
#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700

#include "firmware.h"
#include "flash_file.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define NO_IMAGE_EXIT 3
#define BODY_BYTES 512u

enum behaviour { GOOD, MUTE, DEAF, STRANGER, BROKEN };

static int port = -1;
static uint8_t slot;
static boot_slot_t image;
static enum behaviour behaviour;
static uint8_t reset_cause = MEDGE_RESET_POWER_ON;
static uint32_t boots;
static uint64_t booted_us;
static uint64_t samples;
static int reset_wanted;
static medge_alarm_t shown = {255, 255, 255};
static volatile sig_atomic_t stopped;
static unsigned long noise;
static unsigned long received;
static uint64_t erase_us;
static uint64_t erasing_us;
static uint64_t kicked_us;
static uint64_t longest_us;

static uint64_t clock_us(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return ((uint64_t)now.tv_sec * 1000000u) + ((uint64_t)now.tv_nsec / 1000u);
}

static uint64_t monotonic_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

static uint64_t worked_us(void)
{
    return clock_us(CLOCK_PROCESS_CPUTIME_ID) + erasing_us;
}

static void tell_flash(const char *what, uint8_t where, uint32_t offset)
{
    printf("%llu %s slot %u at %lu\n", (unsigned long long)monotonic_us(), what, where,
           (unsigned long)offset);
    (void)fflush(stdout);
    if (what[0] == 'e') {
        const struct timespec page = {.tv_sec = (time_t)(erase_us / 1000000u),
                                      .tv_nsec = (long)(erase_us % 1000000u) * 1000L};
        (void)nanosleep(&page, NULL);
        erasing_us += erase_us;
    }
}

uint64_t board_now_us(void)
{
    return monotonic_us() - booted_us;
}

int board_read(void)
{
    uint8_t byte;
    if ((read(port, &byte, 1) != 1) || (behaviour == DEAF)) {
        return -1;
    }
    received++;
    return ((noise != 0u) && ((received % noise) == 0u)) ? (byte ^ 0x10) : byte;
}

int board_write(const uint8_t *bytes, size_t n)
{
    if ((behaviour == DEAF) || ((behaviour == MUTE) && (n != 0u) && (bytes[0] != 0x06u))) {
        return 1;
    }
    return (write(port, bytes, n) == (ssize_t)n) ? 1 : 0;
}

void board_alarm(const medge_alarm_t *alarm)
{
    static const char *const LEVELS[] = {"off", "low", "medium", "high"};
    if (memcmp(alarm, &shown, sizeof(shown)) != 0) {
        shown = *alarm;
        printf("%llu alarm %s %s %s\n", (unsigned long long)monotonic_us(), LEVELS[alarm->level],
               (alarm->sound != 0u) ? "sounds" : "silent",
               (alarm->line == (uint8_t)MEDGE_LINE_QUIET) ? "quiet" : "active");
        (void)fflush(stdout);
    }
}

uint8_t board_line(void)
{
    return shown.line;
}

uint16_t board_faults(void)
{
    return (behaviour == BROKEN) ? 1u : 0u;
}

int board_sample(int32_t counts[BOARD_CHANNELS], uint64_t *taken_us)
{
    const uint64_t due = board_now_us() * BOARD_RATE_MHZ / 1000000000u;
    if (samples >= due) {
        return 0;
    }
    for (size_t i = 0; i < BOARD_CHANNELS; i++) {
        counts[i] = (int32_t)((samples * (i + 1u)) % 2000u) - 1000;
    }
    samples++;
    *taken_us = samples * 1000000000u / BOARD_RATE_MHZ;
    return 1;
}

uint32_t board_lost_samples(void)
{
    return 0;
}

void board_watchdog(void)
{
    const uint64_t now_us = worked_us();
    if ((now_us - kicked_us) > longest_us) {
        longest_us = now_us - kicked_us;
        printf("%llu watchdog %llu\n", (unsigned long long)monotonic_us(),
               (unsigned long long)longest_us);
        (void)fflush(stdout);
    }
    kicked_us = now_us;
}

void board_reset(void)
{
    reset_wanted = 1;
}

uint8_t board_slot(void)
{
    return slot;
}

uint32_t board_identity(medge_hello_t *identity)
{
    static const medge_hello_t FRESH = {.device_id = 0x4D45444745u};
    *identity = FRESH;
    identity->fw_major = image.major;
    identity->fw_minor = image.minor;
    identity->fw_revision = image.revision;
    identity->fw_build = image.build;
    identity->reset_cause = reset_cause;
    return ((uint32_t)getpid() << 12) + boots;
}

static enum behaviour read_behaviour(void)
{
    static const char *const NAMES[] = {"good", "mute", "deaf", "stranger", "broken"};
    char body[BODY_BYTES + 1u] = {0};
    const size_t n = (image.body_bytes < BODY_BYTES) ? image.body_bytes : BODY_BYTES;
    const char *said;
    (void)flash_read(slot, BOOT_HEADER_BYTES, (uint8_t *)body, n);
    said = strstr(body, "behave=");
    for (size_t i = 0; (said != NULL) && (i < (sizeof(NAMES) / sizeof(*NAMES))); i++) {
        if (strncmp(&said[7], NAMES[i], strlen(NAMES[i])) == 0) {
            return (enum behaviour)i;
        }
    }
    return GOOD;
}

/* Run the chosen image until it is reset or stopped. */
static void run(uint64_t trial_us)
{
    static firmware_t firmware;
    struct pollfd waiting = {.fd = port, .events = POLLIN};
    boots++;
    booted_us = monotonic_us();
    samples = 0;
    reset_wanted = 0;
    boot_inspect(slot, &image);
    behaviour = read_behaviour();
    printf("%llu boot slot %u version %u.%u.%u %s\n", (unsigned long long)booted_us, slot,
           image.major, image.minor, image.revision,
           (image.confirmed != 0u) ? "confirmed" : "trial");
    (void)fflush(stdout);
    firmware_init(&firmware, slot);
    if (behaviour == STRANGER) {
        firmware.link.identity.layout ^= 1u;
    }
    kicked_us = worked_us();
    while (!reset_wanted && !stopped) {
        firmware_step(&firmware);
        if (reset_wanted) {
            reset_cause = MEDGE_RESET_SOFTWARE;
            break;
        }
        if (board_now_us() > trial_us) {
            boot_inspect(slot, &image);
            if (image.confirmed == 0u) {
                reset_cause = MEDGE_RESET_WATCHDOG;
                break;
            }
            trial_us = UINT64_MAX;
        }
        (void)poll(&waiting, 1, 2);
    }
}

static int open_port(const char *path)
{
    struct termios raw;
    const int ours = posix_openpt(O_RDWR | O_NOCTTY);
    int theirs;
    const char *name;
    if ((ours < 0) || (grantpt(ours) != 0) || (unlockpt(ours) != 0)) {
        return -1;
    }
    name = ptsname(ours);
    theirs = (name != NULL) ? open(name, O_RDWR | O_NOCTTY) : -1;
    if ((theirs < 0) || (tcgetattr(theirs, &raw) != 0)) {
        return -1;
    }
    cfmakeraw(&raw); /* `theirs` stays open, so that the port outlives its users */
    (void)unlink(path);
    if ((tcsetattr(theirs, TCSANOW, &raw) != 0) || (symlink(name, path) != 0) ||
        (fcntl(ours, F_SETFL, O_NONBLOCK) != 0)) {
        return -1;
    }
    return ours;
}

static int write_factory(const char *path)
{
    static uint8_t bytes[BOOT_IMAGE_BYTES];
    const int file = open(path, O_RDONLY);
    const ssize_t n = (file >= 0) ? read(file, bytes, sizeof(bytes)) : -1;
    (void)close(file);
    if (n <= 0) {
        return -1;
    }
    for (uint32_t page = 0; page < BOOT_PAGES; page++) {
        if (boot_erase_page(0, page) != 0) {
            return -1;
        }
    }
    for (uint32_t at = 0; at < (uint32_t)n; at += FLASH_PAGE_BYTES) {
        const size_t rest = (size_t)n - at;
        if (flash_write(0, at, &bytes[at], (rest < FLASH_PAGE_BYTES) ? rest : FLASH_PAGE_BYTES)) {
            return -1;
        }
    }
    return ((boot_mark_pending(0) == 0) && (boot_choose() == 0u)) ? boot_confirm(0) : -1;
}

static const char *option(int argc, char **argv, const char *name)
{
    for (int i = 1; (i + 1) < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return argv[i + 1];
        }
    }
    return NULL;
}

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

int main(int argc, char **argv)
{
    const char *flash = option(argc, argv, "--flash");
    const char *factory = option(argc, argv, "--factory");
    const char *link_path = option(argc, argv, "--port");
    const char *cut = option(argc, argv, "--cut");
    const char *wear = option(argc, argv, "--wear");
    const char *erase_ms = option(argc, argv, "--erase-ms");
    const char *noisy = option(argc, argv, "--noise");
    const char *trial_ms = option(argc, argv, "--trial-ms");
    const uint64_t trial_us = 1000u * strtoull((trial_ms != NULL) ? trial_ms : "30000", NULL, 10);
    if ((flash == NULL) || ((factory == NULL) == (link_path == NULL)) || (flash_open(flash) != 0)) {
        (void)fprintf(stderr, "usage: host_main --flash FILE (--factory IMAGE | --port LINK)\n");
        return 2;
    }
    if (factory != NULL) {
        return (write_factory(factory) == 0) ? 0 : 1;
    }
    (void)signal(SIGTERM, stop);
    (void)signal(SIGINT, stop);
    noise = strtoul((noisy != NULL) ? noisy : "0", NULL, 10);
    flash_cut_at(strtoul((cut != NULL) ? cut : "0", NULL, 10));
    flash_wear_at(strtoul((wear != NULL) ? wear : "0", NULL, 10));
    erase_us = 1000u * strtoull((erase_ms != NULL) ? erase_ms : "0", NULL, 10);
    flash_tell(tell_flash);
    port = open_port(link_path);
    if (port < 0) {
        perror(link_path);
        return 2;
    }
    while (!stopped) {
        slot = boot_choose();
        if (slot == BOOT_NONE) {
            return NO_IMAGE_EXIT;
        }
        run(trial_us);
    }
    (void)unlink(link_path);
    (void)fprintf(stderr, "%lu flash operations\n", flash_operations());
    return 0;
}
