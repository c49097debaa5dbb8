/* Bearer tokens from a file: see tokens.h. */
#include "services/gateway/tokens.h"

#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define TOKEN_LIMIT    1000
#define NAME_LENGTH    64
#define CHECK_INTERVAL 500

struct token {
        char name[NAME_LENGTH + 1];
        unsigned scopes;
        unsigned char hash[32];
};

struct tokens {
        char *path;
        struct token *items;
        size_t count;
        struct timespec changed;
        off_t size;
        uv_timer_t timer;
        void (*listener)(void *context);
        void *listener_context;
};

static int parse_scopes(char *text, unsigned *ret)
{
        static const struct {
                const char *name;
                unsigned scope;
        } scopes[] = {
                { "signup", SCOPE_SIGNUP }, { "read", SCOPE_READ }, { "app", SCOPE_APP }, { "admin", SCOPE_ADMIN }
        };
        char *word;

        while ((word = strsep(&text, ",")) != NULL) {
                size_t i = 0;

                while (i < ARRAY_SIZE(scopes) && strcmp(scopes[i].name, word) != 0)
                        i++;
                if (i == ARRAY_SIZE(scopes))
                        return -1;
                *ret |= scopes[i].scope;
        }
        if (*ret & SCOPE_ADMIN) /* who may do everything may read and sign up */
                *ret |= SCOPE_SIGNUP | SCOPE_READ;
        return 0;
}

static int parse_line(char *line, struct token *token)
{
        char name[NAME_LENGTH + 1], scopes[64], hash[65], rest[2];

        if (sscanf(line, "%64s %63s %64s %1s", name, scopes, hash, rest) != 3)
                return -1;
        memcpy(token->name, name, sizeof(name));
        return parse_scopes(scopes, &token->scopes) < 0 || crypto_hex_decode(hash, token->hash) != 32 ? -1 : 0;
}

static int read_tokens(const char *path, struct token **ret, size_t *ret_count, struct err *err)
{
        struct token *items = mem_alloc(TOKEN_LIMIT, sizeof(*items));
        FILE *in = fopen(path, "re");
        char line[512];
        size_t count = 0;
        int number = 0;

        if (in == NULL) {
                free(items);
                return err_field(err, "TOKENS", "cannot read the tokens in %s: %s", path, strerror(errno));
        }
        while (fgets(line, sizeof(line), in) != NULL) {
                number++;
                if (line[strspn(line, " \t\r\n")] == '\0' || line[strspn(line, " \t")] == '#')
                        continue;
                if (count == TOKEN_LIMIT || parse_line(line, &items[count]) < 0) {
                        fclose(in);
                        free(items);
                        return err_field(err, "TOKENS", "%s line %d is not: name, scopes, SHA-256 in hexadecimal", path,
                                         number);
                }
                count++;
        }
        fclose(in);
        *ret = items;
        *ret_count = count;
        return 0;
}

int tokens_check(const char *path, struct err *err)
{
        struct token *items = NULL;
        size_t count;
        int rc = read_tokens(path, &items, &count, err);

        free(items);
        return rc;
}

static bool file_changed(struct tokens *tokens)
{
        struct stat now;

        if (stat(tokens->path, &now) < 0 ||
            (now.st_mtim.tv_sec == tokens->changed.tv_sec && now.st_mtim.tv_nsec == tokens->changed.tv_nsec &&
             now.st_size == tokens->size))
                return false;
        tokens->changed = now.st_mtim;
        tokens->size = now.st_size;
        return true;
}

static void on_check(uv_timer_t *timer)
{
        struct tokens *tokens = timer->data;
        struct token *items;
        size_t count;
        struct err err;

        if (!file_changed(tokens))
                return;
        if (read_tokens(tokens->path, &items, &count, &err) < 0) {
                log_error("the token file is broken; the former tokens stay in force", "error", err.message, NULL);
                return;
        }
        free(tokens->items);
        tokens->items = items;
        tokens->count = count;
        log_info("tokens read again", NULL);
        if (tokens->listener != NULL)
                tokens->listener(tokens->listener_context);
}

void tokens_on_change(struct tokens *tokens, void (*changed)(void *context), void *context)
{
        tokens->listener = changed;
        tokens->listener_context = context;
}

bool tokens_allow(const struct tokens *tokens, const unsigned char hash[32], unsigned scope)
{
        for (size_t i = 0; i < tokens->count; i++)
                if (crypto_equal(tokens->items[i].hash, hash, 32) && (tokens->items[i].scopes & scope) != 0)
                        return true;
        return false;
}

int tokens_new(uv_loop_t *loop, const char *path, struct tokens **ret, struct err *err)
{
        struct tokens *tokens = NEW(struct tokens);

        tokens->path = mem_copy_text(path);
        file_changed(tokens);
        if (read_tokens(path, &tokens->items, &tokens->count, err) < 0) {
                free(tokens->path);
                free(tokens);
                return -ERR_INPUT;
        }
        uv_timer_init(loop, &tokens->timer);
        tokens->timer.data = tokens;
        uv_timer_start(&tokens->timer, on_check, CHECK_INTERVAL, CHECK_INTERVAL);
        *ret = tokens;
        return 0;
}

static void free_tokens(uv_handle_t *handle)
{
        struct tokens *tokens = handle->data;

        free(tokens->items);
        free(tokens->path);
        free(tokens);
}

void tokens_free(struct tokens *tokens)
{
        if (tokens != NULL)
                uv_close((uv_handle_t *)&tokens->timer, free_tokens);
}

const char *tokens_find(const struct tokens *tokens, const char *token, unsigned *ret_scopes)
{
        const struct token *found = NULL;
        struct crypto_digest digest;

        crypto_sha256(token, strlen(token), &digest);
        for (size_t i = 0; i < tokens->count; i++)
                if (crypto_equal(tokens->items[i].hash, digest.bytes, sizeof(digest.bytes)))
                        found = &tokens->items[i];
        if (found == NULL)
                return NULL;
        *ret_scopes = found->scopes;
        return found->name;
}
