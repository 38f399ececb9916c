/* The host build's flash: a file that can wear out, and a power supply that can be cut in the
 * middle of a write. */
#ifndef FLASH_FILE_H
#define FLASH_FILE_H

#include "flash.h"

#define FLASH_CUT_EXIT 99

/* Open or make the file. Returns 0, or -1. */
int flash_open(const char *path);

/* At the `n`th write or erase from now on (1 is the next) half of it is done, and the process ends
 * with FLASH_CUT_EXIT. 0 never. */
void flash_cut_at(unsigned long n);

/* The `n`th write or erase from now on (1 is the next) and all after it fail: the flash is worn
 * out. 0 never. */
void flash_wear_at(unsigned long n);

/* Have `tell` called before each write and erase. */
void flash_tell(void (*tell)(const char *what, uint8_t slot, uint32_t offset));

/* How many writes and erases there have been. */
unsigned long flash_operations(void);

#endif
