/* The cryptography we need, by OpenSSL: random bytes, SHA-256, HMAC, AES-256-GCM, constant-time compare, text forms. */
#pragma once

#include "common/base/err.h"

#define CRYPTO_KEY_BYTES   32
#define CRYPTO_NONCE_BYTES 12
#define CRYPTO_TAG_BYTES   16

struct crypto_digest {
        unsigned char bytes[32];
};

struct crypto_hash;
struct crypto_mac;

void crypto_random(void *out, size_t length);
/* Random letters and digits, about 5.95 bits each. The caller frees with mem_free_secret. */
char *crypto_random_password(size_t length);

struct crypto_hash *crypto_hash_new(void);
void crypto_hash_add(struct crypto_hash *hash, const void *bytes, size_t length);
/* Takes hash. */
void crypto_hash_finish(struct crypto_hash *hash, struct crypto_digest *digest);
void crypto_sha256(const void *bytes, size_t length, struct crypto_digest *digest);
void crypto_hmac_sha256(const void *key, size_t key_length, const void *bytes, size_t length,
                        struct crypto_digest *digest);
/* HMAC-SHA-256 of many messages under one key: looking for the algorithm and preparing the key are done once. The key
 * is copied; the caller frees. */
struct crypto_mac *crypto_mac_new(const void *key, size_t key_length);
void crypto_mac_add(struct crypto_mac *mac, const void *bytes, size_t length);
/* Of what was added since it was made, or since the last digest. */
void crypto_mac_digest(struct crypto_mac *mac, struct crypto_digest *digest);
void crypto_mac_free(struct crypto_mac *mac);
bool crypto_equal(const void *a, const void *b, size_t length);

/* out has room for CRYPTO_NONCE_BYTES + length + CRYPTO_TAG_BYTES: a fresh nonce, the text, the tag. */
void crypto_seal(const unsigned char key[CRYPTO_KEY_BYTES], const char *aad, const void *plain, size_t length,
                 unsigned char *out);
/* out has room for length - nonce - tag. Returns 0 or -ERR_PERMANENT when the seal does not hold. */
int crypto_open(const unsigned char key[CRYPTO_KEY_BYTES], const char *aad, const unsigned char *sealed, size_t length,
                unsigned char *out, struct err *err);

/* Text forms; the caller frees. base64 with padding, base64url without. */
char *crypto_hex(const void *bytes, size_t length);
char *crypto_base64(const void *bytes, size_t length);
char *crypto_base64url(const void *bytes, size_t length);
/* Accepts both alphabets, with or without padding. Returns the number of bytes or -1. out has room for strlen(text). */
int crypto_base64_decode(const char *text, unsigned char *out);
/* Returns the number of bytes or -1. out has room for strlen(text) / 2. */
int crypto_hex_decode(const char *text, unsigned char *out);
