/* SCRAM-SHA-256 verifiers: see scram.h. */
#include "common/pg/scram.h"

#include "common/base/crypto.h"
#include "common/base/memory.h"

#include <openssl/evp.h>
#include <string.h>

#define SCRAM_ITERATIONS 4096
#define SCRAM_SALT       16

char *scram_verifier(const char *password)
{
        unsigned char salt[SCRAM_SALT];
        struct crypto_digest salted, client, server, stored;
        auto_free char *salt_text = NULL, *stored_text = NULL, *server_text = NULL;

        crypto_random(salt, sizeof(salt));
        if (PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, sizeof(salt), SCRAM_ITERATIONS, EVP_sha256(),
                              sizeof(salted.bytes), salted.bytes) != 1)
                abort();
        crypto_hmac_sha256(salted.bytes, sizeof(salted.bytes), "Client Key", 10, &client);
        crypto_hmac_sha256(salted.bytes, sizeof(salted.bytes), "Server Key", 10, &server);
        crypto_sha256(client.bytes, sizeof(client.bytes), &stored);
        salt_text = crypto_base64(salt, sizeof(salt));
        stored_text = crypto_base64(stored.bytes, sizeof(stored.bytes));
        server_text = crypto_base64(server.bytes, sizeof(server.bytes));
        explicit_bzero(&salted, sizeof(salted));
        explicit_bzero(&client, sizeof(client));
        return mem_printf("SCRAM-SHA-256$%d:%s$%s:%s", SCRAM_ITERATIONS, salt_text, stored_text, server_text);
}
