/* Which image runs: a small stand-in for MCUboot's "direct XIP with revert", with its image format.
 *
 * A new image goes into the slot that does not run. Marked pending, it is tried at the next boot,
 * once; unless it is confirmed while it runs, the boot after that goes back to the one before. Each
 * step is one write to flash, so that a power cut finds either the state before or the one after.
 * It checks hashes, not signatures: on hardware MCUboot checks those too. */
#ifndef BOOT_H
#define BOOT_H

#include "flash.h"
#include "sha256.h"

#define BOOT_NONE 0xFFu
#define BOOT_HEADER_BYTES 32u
#define BOOT_IMAGE_BYTES (FLASH_SLOT_BYTES - FLASH_PAGE_BYTES)
#define BOOT_PAGES (FLASH_SLOT_BYTES / FLASH_PAGE_BYTES)

typedef struct {
    uint8_t valid; /* its hash is right */
    uint8_t pending;
    uint8_t tried;
    uint8_t confirmed;
    uint8_t major;
    uint8_t minor;
    uint16_t revision;
    uint32_t build;
    uint32_t body_bytes;
    uint32_t generation; /* of two confirmed images the later one runs */
    uint8_t hash[SHA256_BYTES];
} boot_slot_t;

/* Read one slot's header and marks, without its hash: 0, or -1 if there is no header. */
int boot_look(uint8_t slot, boot_slot_t *found);

/* Read and check one slot: as long as hashing it takes. */
void boot_inspect(uint8_t slot, boot_slot_t *found);

/* What the boot loader does at each boot: the slot to run, or BOOT_NONE. */
uint8_t boot_choose(void);

/* Let a valid slot be tried at the next boot. */
int boot_mark_pending(uint8_t slot);

/* Keep the slot that runs. */
int boot_confirm(uint8_t slot);

/* Erase one of a slot's BOOT_PAGES pages: page 0 is that of its marks, and has to go first. */
int boot_erase_page(uint8_t slot, uint32_t page);

#endif
