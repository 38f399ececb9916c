/* See flash_file.h. Like NOR flash: writing can only clear bits, erasing sets a page to FF. */
#define _POSIX_C_SOURCE 200809L

#include "flash_file.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int file = -1;
static unsigned long operations;
static unsigned long cut;
static unsigned long worn;
static void (*told)(const char *what, uint8_t slot, uint32_t offset);

int flash_open(const char *path)
{
    uint8_t erased[FLASH_PAGE_BYTES];
    file = open(path, O_RDWR | O_CREAT, 0600);
    if (file < 0) {
        return -1;
    }
    (void)memset(erased, 0xFF, sizeof(erased));
    while (lseek(file, 0, SEEK_END) < (off_t)(FLASH_SLOTS * FLASH_SLOT_BYTES)) {
        if (write(file, erased, sizeof(erased)) != (ssize_t)sizeof(erased)) {
            return -1;
        }
    }
    return 0;
}

void flash_cut_at(unsigned long n)
{
    cut = (n == 0u) ? 0u : (operations + n);
}

void flash_wear_at(unsigned long n)
{
    worn = (n == 0u) ? 0u : (operations + n);
}

void flash_tell(void (*tell)(const char *what, uint8_t slot, uint32_t offset))
{
    told = tell;
}

unsigned long flash_operations(void)
{
    return operations;
}

static off_t place(uint8_t slot, uint32_t offset)
{
    return (off_t)((slot * FLASH_SLOT_BYTES) + offset);
}

static int inside(uint8_t slot, uint32_t offset, size_t n)
{
    return (slot < FLASH_SLOTS) && (offset <= FLASH_SLOT_BYTES) &&
           (n <= (FLASH_SLOT_BYTES - offset));
}

/* One operation on the flash: all of it, none of it, or half of it and the power is gone. */
static int operate(const char *what, uint8_t slot, uint32_t offset, const uint8_t *bytes, size_t n)
{
    if (told != NULL) {
        told(what, slot, offset);
    }
    operations++;
    if ((worn != 0u) && (operations >= worn)) {
        return -1;
    }
    if (operations == cut) {
        if (pwrite(file, bytes, n / 2u, place(slot, offset)) < 0) {
            return -1;
        }
        _exit(FLASH_CUT_EXIT);
    }
    return (pwrite(file, bytes, n, place(slot, offset)) == (ssize_t)n) ? 0 : -1;
}

int flash_erase_page(uint8_t slot, uint32_t offset)
{
    uint8_t erased[FLASH_PAGE_BYTES];
    (void)memset(erased, 0xFF, sizeof(erased));
    return inside(slot, offset, sizeof(erased))
               ? operate("erase", slot, offset, erased, sizeof(erased))
               : -1;
}

int flash_write(uint8_t slot, uint32_t offset, const uint8_t *bytes, size_t n)
{
    uint8_t cleared[FLASH_PAGE_BYTES];
    if ((n > sizeof(cleared)) || !inside(slot, offset, n) ||
        (flash_read(slot, offset, cleared, n) != 0)) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        cleared[i] &= bytes[i];
    }
    return operate("write", slot, offset, cleared, n);
}

int flash_read(uint8_t slot, uint32_t offset, uint8_t *bytes, size_t n)
{
    if (!inside(slot, offset, n)) {
        return -1;
    }
    return (pread(file, bytes, n, place(slot, offset)) == (ssize_t)n) ? 0 : -1;
}
