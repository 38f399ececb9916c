/* The part of CBOR (RFC 8949) that SMP needs: one flat map in, maps and arrays out. */
#ifndef SMP_CBOR_H
#define SMP_CBOR_H

#include <stddef.h>
#include <stdint.h>

#define CBOR_MAX_ITEMS 9u /* eight, and an end */

/* One pair of a map that was read; `key` is NULL after the last. A bool is a number; `bytes` points
 * into the message for byte and text strings, and is NULL for a number. */
typedef struct {
    const uint8_t *key;
    size_t key_length;
    uint64_t number;
    const uint8_t *bytes;
    size_t length;
} cbor_item_t;

/* A message being written; `overflow` is set once it does not fit. */
typedef struct {
    uint8_t *at;
    size_t room;
    size_t length;
    int overflow;
} cbor_t;

/* 1 if `n` bytes are one map of text keys to numbers, bools and strings, and nothing more. */
int cbor_parse(const uint8_t *bytes, size_t n, cbor_item_t items[CBOR_MAX_ITEMS]);
const cbor_item_t *cbor_find(const cbor_item_t *items, const char *key);

void cbor_begin(cbor_t *out, uint8_t *at, size_t room);
void cbor_uint(cbor_t *out, uint64_t value);
void cbor_bool(cbor_t *out, int value);
void cbor_bytes(cbor_t *out, const uint8_t *bytes, size_t n);
void cbor_text(cbor_t *out, const char *text);
void cbor_text_n(cbor_t *out, const uint8_t *text, size_t n);
void cbor_array(cbor_t *out, uint64_t items);
void cbor_map(cbor_t *out, uint64_t pairs);

/* "major.minor.revision.build" into `text`, the build left out if it is 0. */
void cbor_version(char text[32], uint32_t major, uint32_t minor, uint32_t revision, uint32_t build);

#endif
