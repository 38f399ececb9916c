/* The reference firmware without its board: samples, alarm line, heartbeats, firmware update. */
#ifndef FIRMWARE_H
#define FIRMWARE_H

#include "board.h"
#include "smp.h"

#define FIRMWARE_BEAT_MS 100u
#define FIRMWARE_BLOCK 5u /* samples a frame: 20 ms */
#define FIRMWARE_UPDATE_MS 1000u /* so long after the last SMP message the link is silent */

typedef struct {
    medge_link_t link;
    smp_t smp;
    uint64_t beat_us;
    uint64_t update_us;
    uint32_t dropped_samples;
    uint32_t dropped_frames;
    uint64_t first;
    uint64_t first_us;
    uint16_t count;
    uint8_t updating;
    uint8_t greeted;
    int32_t block[FIRMWARE_BLOCK * BOARD_CHANNELS];
    uint8_t out[MEDGE_MAX_ENCODED];
} firmware_t;

/* Start with the alarm on. `active_slot` is the image slot that runs. */
void firmware_init(firmware_t *firmware, uint8_t active_slot);

/* One round of the main loop; to be called for ever, at least every 10 ms. It returns
 * within those but during an update, where it may erase one page of flash. */
void firmware_step(firmware_t *firmware);

#endif
