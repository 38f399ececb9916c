/* See smp_cbor.h. */
#include "smp_cbor.h"

#include <string.h>

enum { UNSIGNED = 0, BYTES = 2, TEXT = 3, ARRAY = 4, MAP = 5, SIMPLE = 7 };

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} reader_t;

/* An item's head: its major type and its argument. 0 if it is cut short or of an unknown kind. */
static int read_head(reader_t *in, unsigned int *major, uint64_t *argument)
{
    unsigned int low;
    size_t more;
    if (in->at == in->end) {
        return 0;
    }
    *major = (unsigned int)*in->at >> 5;
    low = *in->at & 31u;
    in->at++;
    if ((low < 24u) || (low > 27u)) {
        *argument = low;
        return low < 24u;
    }
    more = (size_t)1u << (low - 24u);
    if ((size_t)(in->end - in->at) < more) {
        return 0;
    }
    *argument = 0;
    for (size_t i = 0; i < more; i++) {
        *argument = (*argument << 8) | in->at[i];
    }
    in->at += more;
    return 1;
}

static int read_string(reader_t *in, uint64_t length, const uint8_t **bytes, size_t *n)
{
    if (length > (uint64_t)(in->end - in->at)) {
        return 0;
    }
    *bytes = in->at;
    *n = (size_t)length;
    in->at += *n;
    return 1;
}

static int read_pair(reader_t *in, cbor_item_t *item)
{
    unsigned int major;
    uint64_t argument;
    if (!read_head(in, &major, &argument) || (major != TEXT) ||
        !read_string(in, argument, &item->key, &item->key_length) ||
        !read_head(in, &major, &argument)) {
        return 0;
    }
    item->number = argument;
    if ((major == BYTES) || (major == TEXT)) {
        return read_string(in, argument, &item->bytes, &item->length);
    }
    if (major == SIMPLE) {
        item->number = argument - 20u; /* 20 is false, 21 true */
        return (argument == 20u) || (argument == 21u);
    }
    return major == UNSIGNED;
}

int cbor_parse(const uint8_t *bytes, size_t n, cbor_item_t items[CBOR_MAX_ITEMS])
{
    reader_t in = {bytes, bytes + n};
    unsigned int major;
    uint64_t pairs;
    (void)memset(items, 0, CBOR_MAX_ITEMS * sizeof(*items));
    if (!read_head(&in, &major, &pairs) || (major != MAP) || (pairs >= CBOR_MAX_ITEMS)) {
        return 0;
    }
    for (size_t i = 0; i < pairs; i++) {
        if (!read_pair(&in, &items[i])) {
            return 0;
        }
    }
    return in.at == in.end;
}

const cbor_item_t *cbor_find(const cbor_item_t *items, const char *key)
{
    for (const cbor_item_t *item = items; item->key != NULL; item++) {
        if ((item->key_length == strlen(key)) &&
            (memcmp(item->key, key, item->key_length) == 0)) {
            return item;
        }
    }
    return NULL;
}

void cbor_begin(cbor_t *out, uint8_t *at, size_t room)
{
    out->at = at;
    out->room = room;
    out->length = 0;
    out->overflow = 0;
}

static void put(cbor_t *out, const uint8_t *bytes, size_t n)
{
    if (n > (out->room - out->length)) {
        out->overflow = 1;
    } else if (n != 0u) {
        (void)memcpy(&out->at[out->length], bytes, n);
        out->length += n;
    } else {
        /* An empty string has no bytes. */
    }
}

static void put_head(cbor_t *out, unsigned int major, uint64_t argument)
{
    uint8_t head[9];
    unsigned int width = 0;
    if (argument >= 24u) {
        width = (argument <= 0xFFu) ? 1u : (argument <= 0xFFFFu) ? 2u : 4u;
    }
    head[0] = (uint8_t)(major << 5);
    head[0] = (uint8_t)(head[0] | ((width == 0u) ? (unsigned int)argument
                                                 : (width == 1u)   ? 24u
                                                   : (width == 2u) ? 25u
                                                                   : 26u));
    for (unsigned int i = 0; i < width; i++) {
        head[1u + i] = (uint8_t)(argument >> (8u * (width - 1u - i)));
    }
    put(out, head, 1u + width);
}

void cbor_uint(cbor_t *out, uint64_t value)
{
    put_head(out, UNSIGNED, value);
}

void cbor_bool(cbor_t *out, int value)
{
    put_head(out, SIMPLE, (value != 0) ? 21u : 20u);
}

void cbor_bytes(cbor_t *out, const uint8_t *bytes, size_t n)
{
    put_head(out, BYTES, n);
    put(out, bytes, n);
}

void cbor_text_n(cbor_t *out, const uint8_t *text, size_t n)
{
    put_head(out, TEXT, n);
    put(out, text, n);
}

void cbor_text(cbor_t *out, const char *text)
{
    cbor_text_n(out, (const uint8_t *)text, strlen(text));
}

void cbor_array(cbor_t *out, uint64_t items)
{
    put_head(out, ARRAY, items);
}

void cbor_map(cbor_t *out, uint64_t pairs)
{
    put_head(out, MAP, pairs);
}

static char *decimal(char *at, uint32_t value)
{
    char digits[10];
    size_t n = 0;
    do {
        digits[n] = (char)('0' + (int)(value % 10u));
        value /= 10u;
        n++;
    } while (value != 0u);
    while (n > 0u) {
        n--;
        *at++ = digits[n];
    }
    return at;
}

void cbor_version(char text[32], uint32_t major, uint32_t minor, uint32_t revision, uint32_t build)
{
    char *at = decimal(text, major);
    *at++ = '.';
    at = decimal(at, minor);
    *at++ = '.';
    at = decimal(at, revision);
    if (build != 0u) {
        *at++ = '.';
        at = decimal(at, build);
    }
    *at = '\0';
}
