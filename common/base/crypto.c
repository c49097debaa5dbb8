/* The cryptography we need: see crypto.h. */
#include "common/base/crypto.h"

#include "common/base/memory.h"

#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <string.h>

struct crypto_hash {
        EVP_MD_CTX *context;
};

struct crypto_mac {
        EVP_MAC_CTX *context;
};

/* OpenSSL fails here only when it is out of memory or broken; going on would be worse than stopping. */
static void crypto_must(bool worked)
{
        if (!worked)
                abort();
}

void crypto_random(void *out, size_t length)
{
        crypto_must(RAND_bytes(out, (int)length) == 1);
}

char *crypto_random_password(size_t length)
{
        static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        const unsigned usable = 256 - 256 % (sizeof(letters) - 1);
        char *password = mem_alloc(length + 1, 1);

        for (size_t i = 0; i < length;) {
                unsigned char byte;

                crypto_random(&byte, 1);
                if (byte < usable) /* otherwise some letters would be likelier than others */
                        password[i++] = letters[byte % (sizeof(letters) - 1)];
        }
        return password;
}

static EVP_MD *sha256_fetched;

static void crypto_fetch_sha256(void)
{
        sha256_fetched = EVP_MD_fetch(NULL, "SHA256", NULL);
        crypto_must(sha256_fetched != NULL);
}

/* Fetched once: EVP_sha256() makes OpenSSL search for the algorithm, under locks, at each use. */
static const EVP_MD *crypto_evp_sha256(void)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        pthread_once(&once, crypto_fetch_sha256);
        return sha256_fetched;
}

struct crypto_hash *crypto_hash_new(void)
{
        struct crypto_hash *hash = NEW(struct crypto_hash);

        hash->context = EVP_MD_CTX_new();
        crypto_must(hash->context && EVP_DigestInit_ex(hash->context, crypto_evp_sha256(), NULL) == 1);
        return hash;
}

void crypto_hash_add(struct crypto_hash *hash, const void *bytes, size_t length)
{
        crypto_must(EVP_DigestUpdate(hash->context, bytes, length) == 1);
}

void crypto_hash_finish(struct crypto_hash *hash, struct crypto_digest *digest)
{
        crypto_must(EVP_DigestFinal_ex(hash->context, digest->bytes, NULL) == 1);
        EVP_MD_CTX_free(hash->context);
        free(hash);
}

void crypto_sha256(const void *bytes, size_t length, struct crypto_digest *digest)
{
        crypto_must(EVP_Digest(bytes, length, digest->bytes, NULL, crypto_evp_sha256(), NULL) == 1);
}

struct crypto_mac *crypto_mac_new(const void *key, size_t key_length)
{
        OSSL_PARAM params[] = {
                OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){ "SHA256" }, 0),
                OSSL_PARAM_construct_end(),
        };
        struct crypto_mac *mac = NEW(struct crypto_mac);
        EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);

        crypto_must(hmac != NULL);
        mac->context = EVP_MAC_CTX_new(hmac);
        EVP_MAC_free(hmac);
        crypto_must(mac->context != NULL && EVP_MAC_init(mac->context, key, key_length, params) == 1);
        return mac;
}

void crypto_mac_add(struct crypto_mac *mac, const void *bytes, size_t length)
{
        crypto_must(EVP_MAC_update(mac->context, bytes, length) == 1);
}

void crypto_mac_digest(struct crypto_mac *mac, struct crypto_digest *digest)
{
        size_t n = sizeof(digest->bytes);

        crypto_must(EVP_MAC_final(mac->context, digest->bytes, &n, n) == 1);
        crypto_must(EVP_MAC_init(mac->context, NULL, 0, NULL) == 1);
}

void crypto_mac_free(struct crypto_mac *mac)
{
        if (mac == NULL)
                return;
        EVP_MAC_CTX_free(mac->context); /* wipes the key */
        free(mac);
}

void crypto_hmac_sha256(const void *key, size_t key_length, const void *bytes, size_t length,
                        struct crypto_digest *digest)
{
        struct crypto_mac *mac = crypto_mac_new(key, key_length);

        crypto_mac_add(mac, bytes, length);
        crypto_mac_digest(mac, digest);
        crypto_mac_free(mac);
}

bool crypto_equal(const void *a, const void *b, size_t length)
{
        return CRYPTO_memcmp(a, b, length) == 0;
}

void crypto_seal(const unsigned char key[CRYPTO_KEY_BYTES], const char *aad, const void *plain, size_t length,
                 unsigned char *out)
{
        EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
        unsigned char *text = out + CRYPTO_NONCE_BYTES;
        int n = 0;

        crypto_must(context != NULL);
        crypto_random(out, CRYPTO_NONCE_BYTES);
        crypto_must(EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, out) == 1);
        crypto_must(EVP_EncryptUpdate(context, NULL, &n, (const unsigned char *)aad, (int)strlen(aad)) == 1);
        crypto_must(EVP_EncryptUpdate(context, text, &n, plain, (int)length) == 1);
        crypto_must(EVP_EncryptFinal_ex(context, text + n, &n) == 1);
        crypto_must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, CRYPTO_TAG_BYTES, text + length) == 1);
        EVP_CIPHER_CTX_free(context);
}

int crypto_open(const unsigned char key[CRYPTO_KEY_BYTES], const char *aad, const unsigned char *sealed, size_t length,
                unsigned char *out, struct err *err)
{
        EVP_CIPHER_CTX *context;
        size_t text_length;
        bool holds;
        int n = 0;

        if (length < CRYPTO_NONCE_BYTES + CRYPTO_TAG_BYTES)
                return err_set(err, ERR_PERMANENT, "seal_broken", "a stored secret is too short to be one");
        text_length = length - CRYPTO_NONCE_BYTES - CRYPTO_TAG_BYTES;
        context = EVP_CIPHER_CTX_new();
        crypto_must(context != NULL);
        crypto_must(EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, sealed) == 1);
        crypto_must(EVP_DecryptUpdate(context, NULL, &n, (const unsigned char *)aad, (int)strlen(aad)) == 1);
        crypto_must(EVP_DecryptUpdate(context, out, &n, sealed + CRYPTO_NONCE_BYTES, (int)text_length) == 1);
        crypto_must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, CRYPTO_TAG_BYTES,
                                        (void *)(sealed + CRYPTO_NONCE_BYTES + text_length)) == 1);
        holds = EVP_DecryptFinal_ex(context, out + n, &n) == 1;
        EVP_CIPHER_CTX_free(context);
        if (!holds)
                return err_set(err, ERR_PERMANENT, "seal_broken", "a stored secret does not open with its key");
        return 0;
}

char *crypto_hex(const void *bytes, size_t length)
{
        static const char digits[] = "0123456789abcdef";
        const unsigned char *in = bytes;
        char *text = mem_alloc(length * 2 + 1, 1);

        for (size_t i = 0; i < length; i++) {
                text[2 * i] = digits[in[i] >> 4];
                text[2 * i + 1] = digits[in[i] & 15];
        }
        return text;
}

static int crypto_hex_value(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int crypto_hex_decode(const char *text, unsigned char *out)
{
        size_t length = strlen(text);

        if (length % 2 != 0)
                return -1;
        for (size_t i = 0; i < length / 2; i++) {
                int high = crypto_hex_value(text[2 * i]), low = crypto_hex_value(text[2 * i + 1]);

                if (high < 0 || low < 0)
                        return -1;
                out[i] = (unsigned char)(high << 4 | low);
        }
        return (int)(length / 2);
}

char *crypto_base64(const void *bytes, size_t length)
{
        char *text;

        crypto_must(length <= INT_MAX / 4 * 3 - 3); /* OpenSSL counts in int */
        text = mem_alloc((length + 2) / 3 * 4 + 1, 1);
        EVP_EncodeBlock((unsigned char *)text, bytes, (int)length);
        return text;
}

char *crypto_base64url(const void *bytes, size_t length)
{
        char *text = crypto_base64(bytes, length);

        for (char *p = text; *p; p++)
                *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
        text[strcspn(text, "=")] = '\0';
        return text;
}

/* As OpenSSL needs it: in the standard alphabet, padded. NULL if it cannot be. */
static char *crypto_pad_base64(const char *text)
{
        size_t bare = strcspn(text, "="), padded = (bare + 3) / 4 * 4;
        char *copy;

        if (text[bare] != '\0' && (strlen(text) != padded || strspn(text + bare, "=") != padded - bare))
                return NULL;
        copy = mem_alloc(padded + 1, 1);
        for (size_t i = 0; i < bare; i++)
                copy[i] = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
        memset(copy + bare, '=', padded - bare);
        return copy;
}

/* Returns the number of bytes or -1. bytes has room for all of them, padding included. */
static int crypto_decode_padded(const char *padded, unsigned char *bytes)
{
        int padding = (int)strlen(padded + strcspn(padded, "="));
        int count = EVP_DecodeBlock(bytes, (const unsigned char *)padded, (int)strlen(padded)) - padding;
        auto_secret char *again = count < 0 ? NULL : crypto_base64(bytes, (size_t)count);

        /* There must be only one text for the same bytes, or a signature could be changed and still verify. OpenSSL is
         * lenient: it ignores white space, and bits that belong to no byte. */
        return again != NULL && strcmp(again, padded) == 0 ? count : -1;
}

int crypto_base64_decode(const char *text, unsigned char *out)
{
        auto_secret char *padded = crypto_pad_base64(text);
        size_t room = padded ? strlen(padded) / 4 * 3 + 1 : 0;
        unsigned char *bytes;
        int count;

        if (padded == NULL || room > INT_MAX / 4 * 3 - 3)
                return -1;
        bytes = mem_alloc(room, 1);
        count = crypto_decode_padded(padded, bytes);
        if (count > 0)
                memcpy(out, bytes, (size_t)count);
        OPENSSL_cleanse(bytes, room);
        free(bytes);
        return count;
}
