/* A ring of named AES-256 keys: the first one seals, all of them open. Written "k2:BASE64,k1:BASE64" in the
 * configuration. Sealed text is "KEYID.BASE64URL"; its additional data is tenant, field and generation, so a secret
 * copied to another row does not open. */
#pragma once

#include "common/base/err.h"

struct keyring;

/* Parses text (borrowed). Returns 0 and *ret (freed with keyring_free), or -ERR_INPUT. name is for messages. */
int keyring_parse(const char *name, const char *text, struct keyring **ret, struct err *err);
void keyring_free(struct keyring *ring);
/* Borrowed from the ring. */
const char *keyring_primary(const struct keyring *ring);

/* The caller frees the result. */
char *keyring_seal(const struct keyring *ring, const char *tenant_id, const char *field, int generation,
                   const char *plain);
/* Returns 0 and *ret (wipe with mem_free_secret); -ERR_BUSY for an unknown key id, because another replica may already
 * use a key that we are about to get; -ERR_PERMANENT if the seal is broken. */
int keyring_open(const struct keyring *ring, const char *tenant_id, const char *field, int generation,
                 const char *sealed, char **ret, struct err *err);
/* Signs text for use in a link, with a key derived from the primary key for purpose. The caller frees. */
char *keyring_sign(const struct keyring *ring, const char *purpose, const char *text);
/* True if any key of the ring made the signature. */
bool keyring_verify(const struct keyring *ring, const char *purpose, const char *text, const char *signature);
/* "ID:BASE64" of a fresh key; wipe with mem_free_secret. For `tenantry keys new`. */
char *keyring_new_key(const char *id);
