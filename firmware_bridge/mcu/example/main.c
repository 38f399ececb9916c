/* The reference firmware on bare metal. A board replaces the weak stand-ins below, which show a
 * board that does nothing but alarm; flash_*() come from MCUboot's flash map where images are
 * updated over the same port. Nothing here is specific to one Cortex-M. */
#include "firmware.h"

#define WEAK __attribute__((weak))

WEAK uint64_t board_now_us(void)
{
    /* A real one extends a hardware timer to 64 bits in its overflow interrupt. */
    static uint64_t now_us;
    return now_us++;
}

WEAK int board_read(void)
{
    return -1;
}

WEAK int board_write(const uint8_t *bytes, size_t n)
{
    (void)bytes;
    (void)n;
    return 0;
}

WEAK void board_alarm(const medge_alarm_t *alarm)
{
    (void)alarm;
}

WEAK uint8_t board_line(void)
{
    return MEDGE_LINE_UNKNOWN;
}

WEAK uint16_t board_faults(void)
{
    return 0;
}

WEAK int board_sample(int32_t counts[BOARD_CHANNELS], uint64_t *taken_us)
{
    (void)counts;
    (void)taken_us;
    return 0;
}

WEAK uint32_t board_lost_samples(void)
{
    return 0;
}

WEAK void board_watchdog(void)
{
}

WEAK void board_reset(void)
{
    for (;;) {
        /* Never kicked again, the watchdog ends this. */
    }
}

WEAK uint32_t board_identity(medge_hello_t *identity)
{
    static const medge_hello_t NOBODY = {.fw_major = 0};
    *identity = NOBODY;
    return 0;
}

WEAK uint8_t board_slot(void)
{
    return 0;
}

WEAK int flash_erase_page(uint8_t slot, uint32_t offset)
{
    (void)slot;
    (void)offset;
    return -1;
}

WEAK int flash_write(uint8_t slot, uint32_t offset, const uint8_t *bytes, size_t n)
{
    (void)slot;
    (void)offset;
    (void)bytes;
    (void)n;
    return -1;
}

WEAK int flash_read(uint8_t slot, uint32_t offset, uint8_t *bytes, size_t n)
{
    (void)slot;
    (void)offset;
    (void)bytes;
    (void)n;
    return -1;
}

int main(void)
{
    static firmware_t firmware;
    firmware_init(&firmware, board_slot());
    for (;;) {
        firmware_step(&firmware);
    }
}
