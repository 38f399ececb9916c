/* SHA-256 (FIPS 180-4) of bytes that come in pieces. */
#ifndef SHA256_H
#define SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32u

typedef struct {
    uint32_t state[8];
    uint64_t length;
    uint8_t block[64];
} sha256_t;

void sha256_init(sha256_t *sha);
void sha256_update(sha256_t *sha, const uint8_t *bytes, size_t n);
void sha256_final(sha256_t *sha, uint8_t digest[SHA256_BYTES]);

#endif
