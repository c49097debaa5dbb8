/* `tenantry keys new`: a fresh key for CONTROL_KEYS or APP_KEYS; `tenantry keys token`: a bearer token and its line for
 * the token file. */
#include "cli/cli.h"
#include "common/base/crypto.h"
#include "common/base/keyring.h"
#include "common/base/memory.h"
#include "common/contracts/scope.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define TOKEN_LENGTH 40
#define SCOPES_MOST  63 /* characters, of a line of the token file */

/* Both are stored in files whose fields are separated by blanks, commas and colons. */
static bool keys_name_is_plain(const char *name)
{
        return *name != '\0' && strlen(name) <= 64 &&
               strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == strlen(name);
}

static int keys_new(int argc, char **argv)
{
        const char *id = cli_option(&argc, argv, "id");
        char today[16];
        time_t now = time(NULL);
        struct tm utc;
        auto_secret char *key = NULL;

        if (cli_expect(argc, argv, 1) != EXIT_GOOD)
                return EXIT_USAGE;
        if (id != NULL && !keys_name_is_plain(id))
                return cli_usage("keys", "--id is up to 64 letters, digits, hyphens, underscores and dots");
        gmtime_r(&now, &utc);
        strftime(today, sizeof(today), "k%Y%m%d", &utc);
        key = keyring_new_key(id ? id : today);
        if (cli_json)
                printf("{\"key\":\"%s\"}\n", key);
        else
                puts(key);
        return EXIT_GOOD;
}

static int keys_new_token(int argc, char **argv)
{
        const char *name = cli_option(&argc, argv, "name"), *scopes = cli_option(&argc, argv, "scopes");
        auto_secret char *token = crypto_random_password(TOKEN_LENGTH);
        auto_free char *hash = NULL;
        struct crypto_digest digest;
        unsigned set;

        if (cli_expect(argc, argv, 1) != EXIT_GOOD)
                return EXIT_USAGE;
        if (name == NULL || scopes == NULL)
                return cli_usage("keys", "a token needs --name NAME and --scopes SCOPE,SCOPE");
        if (!keys_name_is_plain(name) || strlen(scopes) > SCOPES_MOST || scope_parse_list(scopes, &set) < 0)
                return cli_usage("keys", "--name must be one plain word, --scopes a list of " SCOPE_NAMES);
        crypto_sha256(token, strlen(token), &digest);
        hash = crypto_hex(digest.bytes, sizeof(digest.bytes));
        if (cli_json)
                printf("{\"token\":\"%s\",\"line\":\"%s %s %s\"}\n", token, name, scopes, hash);
        else
                printf("token (shown only now): %s\nline for the TOKENS file: %s %s %s\n", token, name, scopes, hash);
        return EXIT_GOOD;
}

int run_keys(int argc, char **argv)
{
        if (argc >= 2 && strcmp(argv[1], "new") == 0)
                return keys_new(argc, argv);
        if (argc >= 2 && strcmp(argv[1], "token") == 0)
                return keys_new_token(argc, argv);
        return cli_usage("keys", "use `keys new` or `keys token`");
}
