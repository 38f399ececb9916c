/* SHA-256, FIPS 180-4 sections 4 to 6. */
#include "sha256.h"

#include <string.h>

static const uint32_t K[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u,
    0xab1c5ed5u, 0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu,
    0x9bdc06a7u, 0xc19bf174u, 0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu,
    0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau, 0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u,
    0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u, 0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu,
    0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u, 0xa2bfe8a1u, 0xa81a664bu,
    0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u, 0x19a4c116u,
    0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u,
    0xc67178f2u};

static uint32_t right(uint32_t x, unsigned int n)
{
    return (x >> n) | (x << (32u - n));
}

static void compress(sha256_t *sha)
{
    uint32_t w[64];
    uint32_t s[8];
    for (size_t i = 0; i < 16u; i++) {
        const uint8_t *at = &sha->block[4u * i];
        w[i] = ((uint32_t)at[0] << 24) | ((uint32_t)at[1] << 16) | ((uint32_t)at[2] << 8) | at[3];
    }
    for (size_t i = 16; i < 64u; i++) {
        const uint32_t a = w[i - 15u];
        const uint32_t b = w[i - 2u];
        w[i] = w[i - 16u] + w[i - 7u] + (right(a, 7) ^ right(a, 18) ^ (a >> 3)) +
               (right(b, 17) ^ right(b, 19) ^ (b >> 10));
    }
    (void)memcpy(s, sha->state, sizeof(s));
    for (size_t i = 0; i < 64u; i++) {
        const uint32_t e = right(s[4], 6) ^ right(s[4], 11) ^ right(s[4], 25);
        const uint32_t t1 = s[7] + e + ((s[4] & s[5]) ^ (~s[4] & s[6])) + K[i] + w[i];
        const uint32_t a = right(s[0], 2) ^ right(s[0], 13) ^ right(s[0], 22);
        const uint32_t t2 = a + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        for (size_t j = 7; j > 0u; j--) {
            s[j] = s[j - 1u];
        }
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (size_t i = 0; i < 8u; i++) {
        sha->state[i] += s[i];
    }
}

void sha256_init(sha256_t *sha)
{
    static const sha256_t FRESH = {.state = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                                             0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u}};
    (void)memcpy(sha, &FRESH, sizeof(*sha));
}

void sha256_update(sha256_t *sha, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sha->block[sha->length % 64u] = bytes[i];
        sha->length++;
        if ((sha->length % 64u) == 0u) {
            compress(sha);
        }
    }
}

void sha256_final(sha256_t *sha, uint8_t digest[SHA256_BYTES])
{
    const uint64_t bits = sha->length * 8u;
    uint8_t byte = 0x80;
    sha256_update(sha, &byte, 1);
    byte = 0;
    while ((sha->length % 64u) != 56u) {
        sha256_update(sha, &byte, 1);
    }
    for (unsigned int i = 0; i < 8u; i++) {
        byte = (uint8_t)(bits >> (56u - (8u * i)));
        sha256_update(sha, &byte, 1);
    }
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        digest[i] = (uint8_t)(sha->state[i / 4u] >> (24u - (8u * (i % 4u))));
    }
}
