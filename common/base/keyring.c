/* A ring of named keys: see keyring.h. */
#include "common/base/keyring.h"

#include "common/base/crypto.h"
#include "common/base/memory.h"

#include <ctype.h>
#include <string.h>

#define KEYRING_LIMIT     16
#define KEYRING_ID_LENGTH 32

struct keyring_key {
        char id[KEYRING_ID_LENGTH + 1];
        unsigned char bytes[CRYPTO_KEY_BYTES];
};

struct keyring {
        const char *name;
        size_t count;
        struct keyring_key keys[KEYRING_LIMIT];
};

static const struct keyring_key *keyring_find_key(const struct keyring *ring, const char *id, size_t length)
{
        for (size_t i = 0; i < ring->count; i++)
                if (strlen(ring->keys[i].id) == length && memcmp(ring->keys[i].id, id, length) == 0)
                        return &ring->keys[i];
        return NULL;
}

static bool keyring_id_is_usable(const char *id)
{
        size_t length = strlen(id);

        if (length == 0 || length > KEYRING_ID_LENGTH)
                return false;
        for (const char *p = id; *p; p++)
                if (!isalnum((unsigned char)*p) && *p != '_' && *p != '-')
                        return false;
        return true;
}

static int keyring_add_key(struct keyring *ring, char *entry, struct err *err)
{
        unsigned char bytes[256];
        char *colon = strchr(entry, ':');
        struct keyring_key *key;

        if (ring->count == KEYRING_LIMIT)
                return err_field(err, ring->name, "%s has more than %d keys", ring->name, KEYRING_LIMIT);
        if (colon == NULL)
                return err_field(err, ring->name, "%s: key %zu is not ID:BASE64", ring->name, ring->count + 1);
        *colon = '\0';
        if (!keyring_id_is_usable(entry))
                return err_field(err, ring->name, "%s: the id of key %zu is not 1 to %d letters, digits, - or _",
                                 ring->name, ring->count + 1, KEYRING_ID_LENGTH);
        if (keyring_find_key(ring, entry, strlen(entry)) != NULL)
                return err_field(err, ring->name, "%s: the id %s occurs twice", ring->name, entry);
        if (strlen(colon + 1) >= sizeof(bytes) || crypto_base64_decode(colon + 1, bytes) != CRYPTO_KEY_BYTES)
                return err_field(err, ring->name, "%s: key %s is not %d bytes in base64", ring->name, entry,
                                 CRYPTO_KEY_BYTES);
        key = &ring->keys[ring->count++];
        memcpy(key->id, entry, strlen(entry) + 1);
        memcpy(key->bytes, bytes, CRYPTO_KEY_BYTES);
        explicit_bzero(bytes, sizeof(bytes));
        return 0;
}

int keyring_parse(const char *name, const char *text, struct keyring **ret, struct err *err)
{
        size_t length = strlen(text);
        auto_free char *copy = mem_copy_text(text);
        struct keyring *ring = NEW(struct keyring);
        char *rest = copy, *entry;
        int rc = 0;

        ring->name = name;
        while (rc == 0 && (entry = strsep(&rest, ",")) != NULL) {
                entry += strspn(entry, " \t");
                if (*entry != '\0')
                        rc = keyring_add_key(ring, entry, err);
        }
        explicit_bzero(copy, length); /* wipe all of it: it was split into pieces */
        if (rc == 0 && ring->count == 0)
                rc = err_field(err, name, "%s holds no key: make one with `tenantry keys new`", name);
        if (rc < 0) {
                keyring_free(ring);
                return rc;
        }
        *ret = ring;
        return 0;
}

void keyring_free(struct keyring *ring)
{
        if (ring == NULL)
                return;
        explicit_bzero(ring, sizeof(*ring));
        free(ring);
}

const char *keyring_primary(const struct keyring *ring)
{
        return ring->keys[0].id;
}

static char *keyring_bind_to(const char *tenant_id, const char *field, int generation)
{
        return mem_printf("%s\n%s\n%d", tenant_id, field, generation);
}

char *keyring_seal(const struct keyring *ring, const char *tenant_id, const char *field, int generation,
                   const char *plain)
{
        const struct keyring_key *key = &ring->keys[0];
        size_t length = strlen(plain), sealed_length = length + CRYPTO_NONCE_BYTES + CRYPTO_TAG_BYTES;
        auto_free unsigned char *sealed = mem_alloc(sealed_length, 1);
        auto_free char *aad = keyring_bind_to(tenant_id, field, generation);
        auto_free char *text = NULL;

        crypto_seal(key->bytes, aad, plain, length, sealed);
        text = crypto_base64url(sealed, sealed_length);
        return mem_printf("%s.%s", key->id, text);
}

int keyring_open(const struct keyring *ring, const char *tenant_id, const char *field, int generation,
                 const char *sealed, char **ret, struct err *err)
{
        const char *dot = strchr(sealed, '.');
        const struct keyring_key *key;
        auto_free unsigned char *bytes = NULL;
        auto_free char *aad = keyring_bind_to(tenant_id, field, generation);
        char *plain;
        int length, rc;

        if (dot == NULL)
                return err_set(err, ERR_PERMANENT, "seal_broken", "the stored %s has no key id", field);
        key = keyring_find_key(ring, sealed, (size_t)(dot - sealed));
        if (key == NULL)
                return err_set(err, ERR_BUSY, "key_unknown",
                               "%s has no key \"%.*s\", which sealed the stored %s: add it", ring->name,
                               (int)MIN(dot - sealed, KEYRING_ID_LENGTH), sealed, field);
        bytes = mem_alloc(strlen(dot), 1);
        length = crypto_base64_decode(dot + 1, bytes);
        if (length < CRYPTO_NONCE_BYTES + CRYPTO_TAG_BYTES)
                return err_set(err, ERR_PERMANENT, "seal_broken", "the stored %s is not a sealed text", field);
        plain = mem_alloc((size_t)length, 1);
        rc = crypto_open(key->bytes, aad, bytes, (size_t)length, (unsigned char *)plain, err);
        if (rc < 0) {
                explicit_bzero(plain, (size_t)length); /* OpenSSL decrypts before it knows that the seal is broken */
                free(plain);
                return rc;
        }
        *ret = plain;
        return 0;
}

/* A separate key per purpose, so that a signature can never be mistaken for anything else made with the ring. */
static void keyring_sign_with(const struct keyring_key *key, const char *purpose, const char *text,
                              struct crypto_digest *digest)
{
        struct crypto_digest derived;

        crypto_hmac_sha256(key->bytes, sizeof(key->bytes), purpose, strlen(purpose), &derived);
        crypto_hmac_sha256(derived.bytes, sizeof(derived.bytes), text, strlen(text), digest);
        explicit_bzero(&derived, sizeof(derived));
}

char *keyring_sign(const struct keyring *ring, const char *purpose, const char *text)
{
        struct crypto_digest digest;

        keyring_sign_with(&ring->keys[0], purpose, text, &digest);
        return crypto_base64url(digest.bytes, sizeof(digest.bytes));
}

bool keyring_verify(const struct keyring *ring, const char *purpose, const char *text, const char *signature)
{
        unsigned char given[64];
        bool found = false;

        if (strlen(signature) >= sizeof(given) ||
            crypto_base64_decode(signature, given) != (int)sizeof(struct crypto_digest))
                return false;
        for (size_t i = 0; i < ring->count; i++) {
                struct crypto_digest digest;

                keyring_sign_with(&ring->keys[i], purpose, text, &digest);
                found |= crypto_equal(digest.bytes, given, sizeof(digest.bytes));
        }
        return found;
}

char *keyring_new_key(const char *id)
{
        unsigned char bytes[CRYPTO_KEY_BYTES];
        auto_secret char *text = NULL;

        crypto_random(bytes, sizeof(bytes));
        text = crypto_base64url(bytes, sizeof(bytes));
        explicit_bzero(bytes, sizeof(bytes));
        return mem_printf("%s:%s", id, text);
}
