/* See smp.h. The messages are those of Zephyr's documentation, "SMP Protocol Specification". */
#include "smp.h"

#include "smp_cbor.h"

#include <string.h>

enum { READ = 0, WRITE = 2 };
enum { GROUP_OS = 0, GROUP_IMAGE = 1 };
enum { OS_ECHO = 0, OS_RESET = 5, OS_PARAMETERS = 6 };
enum { IMAGE_STATE = 0, IMAGE_UPLOAD = 1, IMAGE_ERASE = 5 };
enum { EUNKNOWN = 1, EINVAL = 3, EBADSTATE = 6, ENOTSUP = 8 };
enum {
    IMG_FLASH_WRITE_FAILED = 12,
    IMG_FLASH_ERASE_FAILED = 13,
    IMG_INVALID_LENGTH = 21,
    IMG_INVALID_HASH = 24,
    IMG_ALREADY_PENDING = 28,
    IMG_TOO_LARGE = 30,
    IMG_OVERRUN = 31,
    IMG_CONFIRMATION_DENIED = 32,
    IMG_TEST_TO_ACTIVE_DENIED = 33
};

#define HEADER_BYTES 8u
#define MORE 0xFFFFu /* no code of an error: not done yet, and no answer to anybody */

static uint16_t xmodem(const uint8_t *data, size_t n)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < n; i++) {
        crc ^= (uint32_t)data[i] << 8;
        for (unsigned int bit = 0; bit < 8u; bit++) {
            crc = ((crc & 0x8000u) != 0u) ? ((crc << 1) ^ 0x1021u) : (crc << 1);
        }
    }
    return (uint16_t)(crc & 0xFFFFu);
}

static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Append a line's base64 to the frame; 0 if it is none or too long. */
static int append_line(smp_t *smp)
{
    uint32_t bits = 0;
    unsigned int have = 0;
    for (size_t i = 0; i < smp->line_len; i++) {
        const uint8_t letter = smp->line[i];
        const char *at = (letter != 0u) ? strchr(BASE64, letter) : NULL;
        if (letter == (uint8_t)'=') {
            break;
        }
        if (at == NULL) {
            return 0;
        }
        bits = (bits << 6) | (uint32_t)(at - BASE64);
        have += 6u;
        if (have >= 8u) {
            have -= 8u;
            if (smp->frame_len >= SMP_BUFFER_BYTES) {
                return 0;
            }
            smp->frame[smp->frame_len] = (uint8_t)(bits >> have);
            smp->frame_len++;
        }
    }
    return 1;
}

/* Frame a message of `n` bytes into lines. */
static void put_lines(smp_t *smp, const uint8_t *message, size_t n)
{
    uint8_t raw[SMP_REPLY_BYTES / 2u];
    const uint16_t crc = xmodem(message, n);
    const size_t total = n + 4u;
    uint8_t *out = smp->reply;
    size_t letters = 0;
    raw[0] = (uint8_t)((n + 2u) >> 8);
    raw[1] = (uint8_t)((n + 2u) & 0xFFu);
    (void)memcpy(&raw[2], message, n);
    raw[n + 2u] = (uint8_t)(crc >> 8);
    raw[n + 3u] = (uint8_t)(crc & 0xFFu);
    for (size_t at = 0; at < total; at += 3u) {
        uint32_t bits = (uint32_t)raw[at] << 16;
        if ((letters % 124u) == 0u) {
            *out++ = (letters == 0u) ? 0x06u : 0x04u;
            *out++ = (letters == 0u) ? 0x09u : 0x14u;
        }
        bits |= ((at + 1u) < total) ? ((uint32_t)raw[at + 1u] << 8) : 0u;
        bits |= ((at + 2u) < total) ? raw[at + 2u] : 0u;
        *out++ = (uint8_t)BASE64[bits >> 18];
        *out++ = (uint8_t)BASE64[(bits >> 12) & 63u];
        *out++ = (uint8_t)(((at + 1u) < total) ? BASE64[(bits >> 6) & 63u] : '=');
        *out++ = (uint8_t)(((at + 2u) < total) ? BASE64[bits & 63u] : '=');
        letters += 4u;
        if (((letters % 124u) == 0u) || ((at + 3u) >= total)) {
            *out++ = (uint8_t)'\n';
        }
    }
    smp->reply_len = (size_t)(out - smp->reply);
}

static void put_state(cbor_t *out, uint8_t slot, const boot_slot_t *found, int active)
{
    char version[32];
    cbor_map(out, 7);
    cbor_text(out, "slot");
    cbor_uint(out, slot);
    cbor_text(out, "version");
    cbor_version(version, found->major, found->minor, found->revision, found->build);
    cbor_text(out, version);
    cbor_text(out, "hash");
    cbor_bytes(out, found->hash, SHA256_BYTES);
    cbor_text(out, "bootable");
    cbor_bool(out, 1);
    cbor_text(out, "pending");
    cbor_bool(out, (found->pending != 0u) && (found->tried == 0u));
    cbor_text(out, "confirmed");
    cbor_bool(out, found->confirmed);
    cbor_text(out, "active");
    cbor_bool(out, active);
}

static void put_states(const smp_t *smp, const boot_slot_t found[FLASH_SLOTS], cbor_t *out)
{
    uint32_t valid = 0;
    for (uint8_t slot = 0; slot < FLASH_SLOTS; slot++) {
        valid += found[slot].valid;
    }
    cbor_map(out, 1);
    cbor_text(out, "images");
    cbor_array(out, valid);
    for (uint8_t slot = 0; slot < FLASH_SLOTS; slot++) {
        if (found[slot].valid != 0u) {
            put_state(out, slot, &found[slot], slot == smp->active);
        }
    }
}

static void put_error(cbor_t *out, uint32_t rc)
{
    cbor_map(out, 1);
    cbor_text(out, "rc");
    cbor_uint(out, rc);
}

static void put_image_error(cbor_t *out, uint32_t rc)
{
    cbor_map(out, 1);
    cbor_text(out, "err");
    cbor_map(out, 2);
    cbor_text(out, "group");
    cbor_uint(out, GROUP_IMAGE);
    cbor_text(out, "rc");
    cbor_uint(out, rc);
}

static void inspect(boot_slot_t found[FLASH_SLOTS])
{
    for (uint8_t slot = 0; slot < FLASH_SLOTS; slot++) {
        boot_inspect(slot, &found[slot]);
    }
}

static void read_state(const smp_t *smp, cbor_t *out)
{
    boot_slot_t found[FLASH_SLOTS];
    inspect(found);
    put_states(smp, found, out);
}

/* Mark the image of a hash for a trial, or confirm the one that runs. */
static void set_state(const smp_t *smp, const cbor_item_t *request, cbor_t *out)
{
    const cbor_item_t *hash = cbor_find(request, "hash");
    const cbor_item_t *confirm = cbor_find(request, "confirm");
    const int keep = (confirm != NULL) && (confirm->number != 0u);
    boot_slot_t found[FLASH_SLOTS];
    inspect(found);
    for (uint8_t slot = 0; slot < FLASH_SLOTS; slot++) {
        const int active = slot == smp->active;
        boot_slot_t *one = &found[slot];
        if ((hash == NULL) ? !(keep && active)
                           : ((one->valid == 0u) || (hash->length != SHA256_BYTES) ||
                              (memcmp(hash->bytes, one->hash, SHA256_BYTES) != 0))) {
            continue;
        }
        if (keep && !active) {
            /* Only what has been seen to run may be kept. */
            put_image_error(out, IMG_CONFIRMATION_DENIED);
        } else if (!keep && active) {
            put_image_error(out, IMG_TEST_TO_ACTIVE_DENIED);
        } else if (!keep && (one->tried != 0u)) {
            put_error(out, EBADSTATE);
        } else if ((keep ? boot_confirm(slot) : boot_mark_pending(slot)) != 0) {
            put_image_error(out, IMG_FLASH_WRITE_FAILED);
        } else {
            *(keep ? &one->confirmed : &one->pending) = 1;
            put_states(smp, found, out);
        }
        return;
    }
    put_image_error(out, IMG_INVALID_HASH);
}

/* Whether the other slot may be overwritten now: not while it is what a trial falls back to. */
static uint32_t why_not(const smp_t *smp)
{
    boot_slot_t running;
    boot_slot_t other;
    (void)boot_look(smp->active, &running);
    (void)boot_look((uint8_t)(1u - smp->active), &other);
    if ((running.confirmed == 0u) || ((other.pending != 0u) && (other.tried == 0u))) {
        return IMG_ALREADY_PENDING;
    }
    return 0;
}

/* Erase the next page of the other slot and ask for the same message once more, by MORE; 0 when there
 * is none left. */
static uint32_t erase_other(smp_t *smp)
{
    const uint32_t rc = (smp->erased == 0u) ? why_not(smp) : 0u;
    if (rc != 0u) {
        return rc;
    }
    smp->upload_bytes = 0;
    if (smp->erased == BOOT_PAGES) {
        smp->erased = 0;
        return 0;
    }
    if (boot_erase_page((uint8_t)(1u - smp->active), smp->erased) != 0) {
        smp->erased = 0;
        return IMG_FLASH_ERASE_FAILED;
    }
    smp->erased++;
    return MORE;
}

static uint32_t begin_upload(smp_t *smp, const cbor_item_t *request)
{
    const cbor_item_t *length = cbor_find(request, "len");
    const cbor_item_t *sha = cbor_find(request, "sha");
    uint32_t rc;
    if ((length == NULL) || (length->number == 0u) || (sha == NULL) ||
        (sha->length != SHA256_BYTES)) {
        return IMG_INVALID_LENGTH;
    }
    if (length->number > BOOT_IMAGE_BYTES) {
        return IMG_TOO_LARGE;
    }
    if ((smp->upload_bytes == length->number) &&
        (memcmp(smp->upload_sha, sha->bytes, SHA256_BYTES) == 0)) {
        return 0; /* the same image again: go on where it stopped */
    }
    rc = erase_other(smp);
    if (rc != 0u) {
        return rc;
    }
    smp->upload_bytes = (uint32_t)length->number;
    smp->upload_at = 0;
    (void)memcpy(smp->upload_sha, sha->bytes, SHA256_BYTES);
    return 0;
}

/* Whether the flash holds what the host said it would send. */
static int uploaded(const smp_t *smp)
{
    sha256_t sha;
    uint8_t digest[SHA256_BYTES];
    uint8_t bytes[64];
    sha256_init(&sha);
    for (uint32_t at = 0; at < smp->upload_bytes; at += (uint32_t)sizeof(bytes)) {
        const uint32_t rest = smp->upload_bytes - at;
        const size_t part = (rest < sizeof(bytes)) ? rest : sizeof(bytes);
        if (flash_read((uint8_t)(1u - smp->active), at, bytes, part) != 0) {
            return 0;
        }
        sha256_update(&sha, bytes, part);
    }
    sha256_final(&sha, digest);
    return memcmp(digest, smp->upload_sha, sizeof(digest)) == 0;
}

static void upload(smp_t *smp, const cbor_item_t *request, cbor_t *out)
{
    const cbor_item_t *offset = cbor_find(request, "off");
    const cbor_item_t *data = cbor_find(request, "data");
    uint32_t rc = 0;
    int done;
    if ((offset == NULL) || (data == NULL) || (data->bytes == NULL)) {
        put_error(out, EINVAL);
        return;
    }
    if (offset->number == 0u) {
        rc = begin_upload(smp, request);
    } else if (smp->upload_bytes == 0u) {
        put_error(out, EBADSTATE);
        return;
    } else {
        /* It goes on. */
    }
    if ((rc == 0u) && (offset->number == smp->upload_at)) {
        if (data->length > (smp->upload_bytes - smp->upload_at)) {
            rc = IMG_OVERRUN;
        } else if (flash_write((uint8_t)(1u - smp->active), smp->upload_at, data->bytes,
                               data->length) != 0) {
            rc = IMG_FLASH_WRITE_FAILED;
        } else {
            smp->upload_at += (uint32_t)data->length;
        }
    }
    if (rc != 0u) {
        put_image_error(out, rc);
        return;
    }
    done = smp->upload_at == smp->upload_bytes;
    cbor_map(out, done ? 2u : 1u);
    cbor_text(out, "off");
    cbor_uint(out, smp->upload_at);
    if (done) {
        cbor_text(out, "match");
        cbor_bool(out, uploaded(smp));
        smp->upload_bytes = 0;
    }
}

static void erase(smp_t *smp, cbor_t *out)
{
    const uint32_t rc = erase_other(smp);
    if (rc != 0u) {
        put_image_error(out, rc);
    } else {
        cbor_map(out, 0);
    }
}

static void echo(const cbor_item_t *request, cbor_t *out)
{
    const cbor_item_t *said = cbor_find(request, "d");
    cbor_map(out, 1);
    cbor_text(out, "r");
    cbor_text_n(out, (said != NULL) ? said->bytes : NULL, (said != NULL) ? said->length : 0u);
}

static void parameters(cbor_t *out)
{
    cbor_map(out, 2);
    cbor_text(out, "buf_size");
    cbor_uint(out, SMP_BUFFER_BYTES);
    cbor_text(out, "buf_count");
    cbor_uint(out, 1);
}

static void dispatch(smp_t *smp, const uint8_t *header, const cbor_item_t *request, cbor_t *out)
{
    const unsigned int op = header[0] & 7u;
    const unsigned int group = ((unsigned int)header[4] << 8) | header[5];
    const unsigned int what = (group << 8) | header[7];
    if ((what == ((GROUP_OS << 8) | OS_ECHO)) && (op == WRITE)) {
        echo(request, out);
    } else if ((what == ((GROUP_OS << 8) | OS_RESET)) && (op == WRITE)) {
        cbor_map(out, 0);
        smp->reset_wanted = 1;
    } else if ((what == ((GROUP_OS << 8) | OS_PARAMETERS)) && (op == READ)) {
        parameters(out);
    } else if ((what == ((GROUP_IMAGE << 8) | IMAGE_STATE)) && (op == READ)) {
        read_state(smp, out);
    } else if ((what == ((GROUP_IMAGE << 8) | IMAGE_STATE)) && (op == WRITE)) {
        set_state(smp, request, out);
    } else if ((what == ((GROUP_IMAGE << 8) | IMAGE_UPLOAD)) && (op == WRITE)) {
        upload(smp, request, out);
    } else if ((what == ((GROUP_IMAGE << 8) | IMAGE_ERASE)) && (op == WRITE)) {
        erase(smp, out);
    } else {
        put_error(out, ENOTSUP);
    }
}

void smp_work(smp_t *smp)
{
    const uint8_t *message = &smp->frame[2];
    const size_t n = smp->message_len;
    uint8_t reply[SMP_REPLY_BYTES / 2u - 8u];
    cbor_t out;
    cbor_item_t request[CBOR_MAX_ITEMS];
    smp->reply_len = 0;
    if (n == 0u) {
        return;
    }
    cbor_begin(&out, &reply[HEADER_BYTES], sizeof(reply) - HEADER_BYTES);
    if (cbor_parse(&message[HEADER_BYTES], n - HEADER_BYTES, request)) {
        dispatch(smp, message, request, &out);
    } else {
        put_error(&out, EINVAL);
    }
    if (smp->erased != 0u) {
        return; /* there is more to erase: the same message again at the next call */
    }
    smp->message_len = 0;
    if (out.overflow) {
        cbor_begin(&out, &reply[HEADER_BYTES], sizeof(reply) - HEADER_BYTES);
        put_error(&out, EUNKNOWN);
    }
    (void)memcpy(reply, message, HEADER_BYTES);
    reply[0] = (uint8_t)(message[0] | 1u);
    reply[1] = 0;
    reply[2] = (uint8_t)(out.length >> 8);
    reply[3] = (uint8_t)(out.length & 0xFFu);
    put_lines(smp, reply, HEADER_BYTES + out.length);
}

/* After each line: whether the frame is whole, and then what it says. */
static void take_line(smp_t *smp)
{
    const uint8_t *frame = smp->frame;
    size_t due;
    if (!append_line(smp)) {
        smp->frame_len = 0;
        return;
    }
    if (smp->frame_len < 2u) {
        return;
    }
    due = (((size_t)frame[0] << 8) | frame[1]) + 2u;
    if (smp->frame_len < due) {
        return;
    }
    if ((due >= (HEADER_BYTES + 4u)) && (smp->frame_len == due) &&
        (xmodem(&frame[2], due - 4u) ==
         (((unsigned int)frame[due - 2u] << 8) | frame[due - 1u]))) {
        smp->message_len = due - 4u;
    }
    smp->frame_len = 0;
}

void smp_init(smp_t *smp, uint8_t active_slot)
{
    (void)memset(smp, 0, sizeof(*smp));
    smp->active = active_slot;
    smp->at_start = 1;
}

/* A byte within a line. */
static void take_letter(smp_t *smp, uint8_t byte)
{
    if (byte == (uint8_t)'\n') {
        smp->in_line = 0;
        smp->at_start = 1;
        take_line(smp);
    } else if ((byte == 0u) || (smp->line_len == SMP_LINE_BYTES)) {
        smp->in_line = 0;
        smp->at_start = (byte == 0u) ? 1u : 0u;
        smp->frame_len = 0;
    } else {
        smp->line[smp->line_len] = byte;
        smp->line_len++;
    }
}

size_t smp_feed(smp_t *smp, uint8_t byte, uint8_t pass[2])
{
    size_t passed = 0;
    if (smp->in_line != 0u) {
        take_letter(smp, byte);
    } else if (smp->held != 0u) {
        const uint8_t first = smp->held;
        smp->held = 0;
        if (((first == 0x06u) && (byte == 0x09u)) || ((first == 0x04u) && (byte == 0x14u))) {
            smp->in_line = 1;
            smp->line_len = 0;
            smp->frame_len = (first == 0x06u) ? 0u : smp->frame_len;
        } else {
            pass[0] = first;
            pass[1] = byte;
            passed = 2;
            smp->at_start = (byte == 0u) ? 1u : 0u;
        }
    } else if ((smp->at_start != 0u) && ((byte == 0x06u) || (byte == 0x04u))) {
        smp->held = byte;
        smp->at_start = 0;
    } else {
        pass[0] = byte;
        passed = 1;
        smp->at_start = (byte == 0u) ? 1u : 0u;
    }
    return passed;
}
