/* Two image slots in flash, and what the boot loader keeps about them. The host build has them in a
 * file (flash_file.c); on hardware they are MCUboot's, in its mode "direct XIP with revert".
 *
 * Writing can only clear bits. A page must be erased, and 512 bytes written, in less time than the
 * watchdog waits (board.h), for that is what is done between two of its kicks.
 * All functions return 0, or -1 if the flash has failed. */
#ifndef FLASH_H
#define FLASH_H

#include <stddef.h>
#include <stdint.h>

#define FLASH_SLOTS 2u
#define FLASH_SLOT_BYTES 32768u
#define FLASH_PAGE_BYTES 4096u

int flash_erase_page(uint8_t slot, uint32_t offset);
int flash_write(uint8_t slot, uint32_t offset, const uint8_t *bytes, size_t n);
int flash_read(uint8_t slot, uint32_t offset, uint8_t *bytes, size_t n);

#endif
