/* Bearer tokens from a file: see tokens.h. */
#include "services/gateway/tokens.h"

#include "common/base/blocking.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TOKEN_LIMIT    1000
#define NAME_LENGTH    64
#define CHECK_INTERVAL 500
#define FILE_LIMIT     (1024 * 1024)

struct token {
        char name[NAME_LENGTH + 1];
        unsigned scopes;
        unsigned char hash[32];
};

struct tokens {
        char *path;
        struct token *items;
        size_t count;
        struct crypto_digest content; /* hash of the file they came from */
        struct crypto_digest faulty;  /* hash of the file that could not be used; zeros: none */
        char fault[500];              /* why the current file is not in use; empty if it is */
        struct metric *stale, *in_force, *read_at;
        struct blocking *disk;
        struct look *look; /* on its way */
        uv_timer_t timer;
        void (*listener)(void *context);
        void *listener_context;
};

static int tokens_parse_line(char *line, struct token *token)
{
        char name[NAME_LENGTH + 1], scopes[64], hash[65], rest[2];

        if (sscanf(line, "%64s %63s %64s %1s", name, scopes, hash, rest) != 3)
                return -1;
        memcpy(token->name, name, sizeof(name));
        return scope_parse_list(scopes, &token->scopes) < 0 || crypto_hex_decode(hash, token->hash) != 32 ? -1 : 0;
}

/* The content of the file, or why it cannot be read. Runs on a worker thread: the file may be on a disk that hangs. */
struct look {
        char *path;
        struct tokens *tokens; /* NULL once nobody is waiting for it */
        char *text;            /* NULL if it cannot be read */
        int error;
};

static void tokens_read_file(void *context)
{
        struct look *look = context;
        FILE *in = fopen(look->path, "re");
        char *text = in ? mem_alloc(FILE_LIMIT + 1, 1) : NULL;
        size_t length = in ? fread(text, 1, FILE_LIMIT + 1, in) : 0;

        look->error = in == NULL || ferror(in) ? errno : length > FILE_LIMIT ? EFBIG : 0;
        if (in != NULL)
                fclose(in);
        if (look->error == 0) {
                text[length] = '\0';
                look->text = mem_copy_text(text); /* a NUL ends the text, and with it the line, which is then invalid */
        }
        free(text);
}

static void tokens_free_look(struct look *look)
{
        free(look->path);
        free(look->text);
        free(look);
}

static struct look *tokens_new_look(const char *path)
{
        struct look *look = NEW(struct look);

        look->path = mem_copy_text(path);
        return look;
}

static int tokens_parse(const struct look *look, struct token **ret, size_t *ret_count, struct err *err)
{
        struct token *items;
        auto_free char *copy = NULL;
        char *rest, *line;
        size_t count = 0;
        int number = 0;

        if (look->text == NULL)
                return err_field(err, "TOKENS", "cannot read the tokens in %s: %s", look->path, strerror(look->error));
        items = mem_alloc(TOKEN_LIMIT, sizeof(*items));
        rest = copy = mem_copy_text(look->text);
        while ((line = strsep(&rest, "\n")) != NULL) {
                number++;
                if (line[strspn(line, " \t\r")] == '\0' || line[strspn(line, " \t")] == '#')
                        continue;
                if (count == TOKEN_LIMIT || tokens_parse_line(line, &items[count]) < 0) {
                        free(items);
                        return err_field(err, "TOKENS", "%s line %d is not: name, scopes, SHA-256 in hexadecimal",
                                         look->path, number);
                }
                count++;
        }
        *ret = items;
        *ret_count = count;
        return 0;
}

int tokens_check(const char *path, struct err *err)
{
        struct look *look = tokens_new_look(path);
        struct token *items = NULL;
        size_t count;
        int rc;

        tokens_read_file(look);
        rc = tokens_parse(look, &items, &count, err);
        if (rc == 0)
                free(items);
        tokens_free_look(look);
        return rc;
}

/* The tokens match the file, whether they are unchanged or new. */
static void tokens_note_good(struct tokens *tokens)
{
        metric_set(tokens->in_force, (double)tokens->count);
        metric_set(tokens->read_at, (double)clock_wall_ms() / 1e3);
}

static void tokens_note_fault(struct tokens *tokens, const char *fault)
{
        snprintf(tokens->fault, sizeof(tokens->fault), "%s", fault);
        metric_set(tokens->stale, fault[0] != '\0');
}

/* Logged once for each content, and for each reason why there is none. */
static void tokens_keep_former(struct tokens *tokens, const struct look *look, const char *fault)
{
        struct crypto_digest content = { 0 };

        if (look->text != NULL)
                crypto_sha256(look->text, strlen(look->text), &content);
        if (strcmp(tokens->fault, fault) != 0 || memcmp(&content, &tokens->faulty, sizeof(content)) != 0)
                log_error("the token file is invalid; the previous tokens stay in force", "error", fault, NULL);
        tokens->faulty = content;
        tokens_note_fault(tokens, fault);
}

/* An empty file is more often one being written than a wish to revoke all tokens: for that, the file must have a token
 * that nobody knows. */
static void tokens_take(struct tokens *tokens, const struct look *look)
{
        struct token *items = NULL;
        struct crypto_digest content;
        size_t count = 0;
        struct err err;
        int rc = tokens_parse(look, &items, &count, &err);

        if (rc == 0 && count == 0 && tokens->count > 0)
                rc = err_field(&err, "TOKENS", "%s has no token", look->path);
        if (rc < 0) {
                free(items);
                tokens_keep_former(tokens, look, err.message);
                return;
        }
        tokens_note_fault(tokens, "");
        crypto_sha256(look->text, strlen(look->text), &content);
        if (memcmp(&content, &tokens->content, sizeof(content)) == 0) {
                free(items);
                tokens_note_good(tokens);
                return;
        }
        free(tokens->items);
        tokens->items = items;
        tokens->count = count;
        tokens->content = content;
        tokens_note_good(tokens);
        log_info("tokens read again", NULL);
        if (tokens->listener != NULL)
                tokens->listener(tokens->listener_context);
}

static void tokens_file_read(void *context)
{
        struct look *look = context;
        struct tokens *tokens = look->tokens;

        if (tokens != NULL) {
                tokens->look = NULL;
                tokens_take(tokens, look);
        }
        tokens_free_look(look);
}

static void tokens_on_check(uv_timer_t *timer)
{
        struct tokens *tokens = timer->data;

        if (tokens->look != NULL)
                return;
        tokens->look = tokens_new_look(tokens->path);
        tokens->look->tokens = tokens;
        blocking_call(tokens->disk, tokens_read_file, tokens_file_read, tokens->look);
}

const char *tokens_fault(const struct tokens *tokens)
{
        return tokens->fault[0] ? tokens->fault : NULL;
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
        struct tokens *tokens;
        struct look *look = tokens_new_look(path);
        struct token *items = NULL;
        size_t count = 0;
        int rc;

        tokens_read_file(look);
        rc = tokens_parse(look, &items, &count, err);
        if (rc < 0) {
                tokens_free_look(look);
                return rc;
        }
        tokens = NEW(struct tokens);
        tokens->path = mem_copy_text(path);
        tokens->disk = blocking_new(loop, 1);
        tokens->items = items;
        tokens->count = count;
        crypto_sha256(look->text, strlen(look->text), &tokens->content);
        tokens->stale = metric_gauge("tenantry_tokens_stale", NULL, "1 while the token file cannot be used.");
        tokens->in_force = metric_gauge("tenantry_tokens", NULL, "Tokens in force.");
        tokens->read_at = metric_gauge("tenantry_tokens_read_timestamp_seconds", NULL,
                                       "When the token file was last read and valid.");
        tokens_note_good(tokens);
        tokens_free_look(look);
        uv_timer_init(loop, &tokens->timer);
        tokens->timer.data = tokens;
        uv_timer_start(&tokens->timer, tokens_on_check, CHECK_INTERVAL, CHECK_INTERVAL);
        *ret = tokens;
        return 0;
}

static void tokens_closed(uv_handle_t *handle)
{
        struct tokens *tokens = handle->data;

        free(tokens->items);
        free(tokens->path);
        free(tokens);
}

void tokens_free(struct tokens *tokens)
{
        if (tokens == NULL)
                return;
        if (tokens->look != NULL)
                tokens->look->tokens = NULL;
        blocking_free(tokens->disk);
        uv_close((uv_handle_t *)&tokens->timer, tokens_closed);
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
