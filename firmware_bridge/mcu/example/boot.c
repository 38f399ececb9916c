/* See boot.h. The image format is MCUboot's (docs/design.md, "Image format"). */
#include "boot.h"

#include <string.h>

#define MARKS_AT BOOT_IMAGE_BYTES
#define MARK_BYTES 8u

enum mark { MARK_GENERATION, MARK_PENDING, MARK_TRIED, MARK_CONFIRMED };

static const uint8_t IS_SET[MARK_BYTES] = {0x4d, 0x45, 0x44, 0x47, 0x45, 0x53, 0x45, 0x54};

static uint32_t little(const uint8_t *at, size_t bytes)
{
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        value |= (uint32_t)at[i] << (8u * i);
    }
    return value;
}

static uint32_t mark_at(enum mark mark)
{
    return MARKS_AT + ((uint32_t)mark * MARK_BYTES);
}

/* A mark is set when every byte of it is: one that a power cut left half written is not. */
static uint8_t marked(uint8_t slot, enum mark mark)
{
    uint8_t bytes[MARK_BYTES];
    if (flash_read(slot, mark_at(mark), bytes, sizeof(bytes)) != 0) {
        return 0;
    }
    return (memcmp(bytes, IS_SET, sizeof(bytes)) == 0) ? 1u : 0u;
}

static int set_mark(uint8_t slot, enum mark mark)
{
    return flash_write(slot, mark_at(mark), IS_SET, sizeof(IS_SET));
}

static int hash_image(uint8_t slot, uint32_t n, uint8_t digest[SHA256_BYTES])
{
    sha256_t sha;
    uint8_t bytes[64];
    sha256_init(&sha);
    for (uint32_t at = 0; at < n; at += (uint32_t)sizeof(bytes)) {
        const size_t part = ((n - at) < sizeof(bytes)) ? (n - at) : sizeof(bytes);
        if (flash_read(slot, at, bytes, part) != 0) {
            return -1;
        }
        sha256_update(&sha, bytes, part);
    }
    sha256_final(&sha, digest);
    return 0;
}

/* The hash that the TLV area behind `body_end` states. */
static int stated_hash(uint8_t slot, uint32_t body_end, uint8_t hash[SHA256_BYTES])
{
    uint8_t tlv[4];
    uint32_t at = body_end + 4u;
    uint32_t end;
    if ((flash_read(slot, body_end, tlv, 4) != 0) || (little(tlv, 2) != 0x6907u)) {
        return -1;
    }
    end = body_end + little(&tlv[2], 2);
    while (((at + 4u) <= end) && (end <= BOOT_IMAGE_BYTES)) {
        if (flash_read(slot, at, tlv, 4) != 0) {
            return -1;
        }
        if ((tlv[0] == 0x10u) && (little(&tlv[2], 2) == SHA256_BYTES) &&
            ((at + 4u + SHA256_BYTES) <= end)) {
            return flash_read(slot, at + 4u, hash, SHA256_BYTES);
        }
        at += 4u + little(&tlv[2], 2);
    }
    return -1;
}

int boot_look(uint8_t slot, boot_slot_t *found)
{
    uint8_t header[BOOT_HEADER_BYTES];
    uint8_t generation[MARK_BYTES];
    (void)memset(found, 0, sizeof(*found));
    if ((flash_read(slot, 0, header, sizeof(header)) != 0) ||
        (flash_read(slot, mark_at(MARK_GENERATION), generation, sizeof(generation)) != 0) ||
        (little(header, 4) != 0x96F3B83Du) || (little(&header[8], 2) != BOOT_HEADER_BYTES)) {
        return -1;
    }
    found->body_bytes = little(&header[12], 4);
    found->major = header[20];
    found->minor = header[21];
    found->revision = (uint16_t)little(&header[22], 2);
    found->build = little(&header[24], 4);
    found->generation = little(generation, 4);
    found->pending = marked(slot, MARK_PENDING);
    found->tried = marked(slot, MARK_TRIED);
    found->confirmed = marked(slot, MARK_CONFIRMED);
    return 0;
}

void boot_inspect(uint8_t slot, boot_slot_t *found)
{
    uint8_t digest[SHA256_BYTES];
    if ((boot_look(slot, found) == 0) &&
        (found->body_bytes <= (BOOT_IMAGE_BYTES - BOOT_HEADER_BYTES)) &&
        (stated_hash(slot, BOOT_HEADER_BYTES + found->body_bytes, found->hash) == 0) &&
        (hash_image(slot, BOOT_HEADER_BYTES + found->body_bytes, digest) == 0)) {
        found->valid = (memcmp(digest, found->hash, sizeof(digest)) == 0) ? 1u : 0u;
    }
}

uint8_t boot_choose(void)
{
    boot_slot_t found[FLASH_SLOTS];
    uint8_t chosen = BOOT_NONE;
    for (uint8_t slot = 0; slot < FLASH_SLOTS; slot++) {
        boot_inspect(slot, &found[slot]);
    }
    for (uint8_t slot = 0; slot < FLASH_SLOTS; slot++) {
        const boot_slot_t *one = &found[slot];
        /* Noted before it runs: if it hangs, the watchdog's boot must not try it again. So one that
         * cannot be noted is not tried, and what was confirmed goes on running. */
        if ((one->valid != 0u) && (one->pending != 0u) && (one->tried == 0u) &&
            (set_mark(slot, MARK_TRIED) == 0)) {
            return slot;
        }
        if ((one->valid != 0u) && (one->confirmed != 0u) &&
            ((chosen == BOOT_NONE) || (one->generation > found[chosen].generation))) {
            chosen = slot;
        }
    }
    return chosen;
}

int boot_mark_pending(uint8_t slot)
{
    boot_slot_t found;
    uint8_t generation[MARK_BYTES] = {0};
    uint32_t next;
    (void)boot_look((uint8_t)(1u - slot), &found);
    next = (found.confirmed != 0u) ? (found.generation + 1u) : 1u;
    for (size_t i = 0; i < 4u; i++) {
        generation[i] = (uint8_t)(next >> (8u * i));
    }
    if (flash_write(slot, mark_at(MARK_GENERATION), generation, sizeof(generation)) != 0) {
        return -1;
    }
    return set_mark(slot, MARK_PENDING);
}

int boot_confirm(uint8_t slot)
{
    return set_mark(slot, MARK_CONFIRMED);
}

int boot_erase_page(uint8_t slot, uint32_t page)
{
    return flash_erase_page(slot, (page == 0u) ? MARKS_AT : ((page - 1u) * FLASH_PAGE_BYTES));
}
