/* Parsing of migration files: see migration.h. */
#include "common/migration/migration.h"

#include "common/base/buf.h"
#include "common/base/crypto.h"
#include "common/base/memory.h"

#include <ctype.h>
#include <string.h>

#define FILE_LIMIT (4 * 1024 * 1024)

struct reader {
        const char *name, *at, *end;
        int line;
};

enum directive { DIRECTIVE_NONE, DIRECTIVE_UP, DIRECTIVE_DOWN };

static const char *skip_blanks(const char *text, const char *end)
{
        while (text < end && (*text == ' ' || *text == '\t'))
                text++;
        return text;
}

/* The carriage return of a line too. */
static const char *skip_space(const char *text, const char *end)
{
        while (text < end && isspace((unsigned char)*text))
                text++;
        return text;
}

/* "-- migrate:up" with or without the space; *ret_rest is what follows the word. */
static enum directive directive_of(const char *line, const char *end, const char **ret_rest)
{
        const char *p = line;

        if (end - p < 2 || p[0] != '-' || p[1] != '-')
                return DIRECTIVE_NONE;
        p = skip_blanks(p + 2, end);
        if (end - p >= 10 && strncmp(p, "migrate:up", 10) == 0 && (p + 10 == end || isspace((unsigned char)p[10])))
                return *ret_rest = p + 10, DIRECTIVE_UP;
        if (end - p >= 12 && strncmp(p, "migrate:down", 12) == 0 && (p + 12 == end || isspace((unsigned char)p[12])))
                return *ret_rest = p + 12, DIRECTIVE_DOWN;
        return DIRECTIVE_NONE;
}

static int parse_options(const struct reader *reader, const char *text, const char *end,
                         struct migration_section *section, struct err *err)
{
        bool seen = false;

        section->transaction = true;
        for (text = skip_space(text, end); text < end; text = skip_space(text, end)) {
                const char *start = text;
                size_t length;

                while (text < end && !isspace((unsigned char)*text))
                        text++;
                length = (size_t)(text - start);
                if (seen)
                        return err_field(err, reader->name, "%s line %d: a second option \"%.*s\"; there is only one",
                                         reader->name, reader->line, (int)MIN(length, 40), start);
                if (length == 17 && strncmp(start, "transaction:false", 17) == 0)
                        section->transaction = false;
                else if (length != 16 || strncmp(start, "transaction:true", 16) != 0)
                        return err_field(
                                err, reader->name,
                                "%s line %d: unknown option \"%.*s\"; only transaction:true and transaction:false "
                                "are known",
                                reader->name, reader->line, (int)MIN(length, 40), start);
                seen = true;
        }
        return 0;
}

static bool is_comment_or_blank(const char *line, const char *end)
{
        const char *p = skip_blanks(line, end);

        return p == end || *p == '\r' || (end - p >= 2 && p[0] == '-' && p[1] == '-');
}

static int begin_section(const struct reader *reader, enum directive directive, const char *rest, const char *end,
                         struct migration *migration, struct migration_section **section, struct err *err)
{
        struct migration_section *next = directive == DIRECTIVE_UP ? &migration->up : &migration->down;

        if (next->sql != NULL)
                return err_field(err, reader->name, "%s line %d: a second migrate:%s", reader->name, reader->line,
                                 directive == DIRECTIVE_UP ? "up" : "down");
        if (directive == DIRECTIVE_DOWN && migration->up.sql == NULL)
                return err_field(err, reader->name, "%s line %d: migrate:down before migrate:up", reader->name,
                                 reader->line);
        next->sql = mem_copy_text("");
        *section = next;
        return parse_options(reader, rest, end, next, err);
}

static int parse_body(struct reader *reader, struct migration *migration, struct err *err)
{
        struct migration_section *section = NULL;
        auto_buf text = { 0 };
        int rc = 0;

        while (rc == 0 && reader->at < reader->end) {
                const char *newline = memchr(reader->at, '\n', (size_t)(reader->end - reader->at));
                const char *end = newline ? newline : reader->end, *rest = end;
                enum directive directive = directive_of(reader->at, end, &rest);

                reader->line++;
                if (directive != DIRECTIVE_NONE) {
                        if (section != NULL) {
                                free(section->sql);
                                section->sql = buf_take(&text);
                        }
                        rc = begin_section(reader, directive, rest, end, migration, &section, err);
                } else if (section != NULL) {
                        buf_add(&text, reader->at, (size_t)((newline ? newline + 1 : end) - reader->at));
                } else if (!is_comment_or_blank(reader->at, end)) {
                        rc = err_field(err, reader->name, "%s line %d: only comments may stand before migrate:up",
                                       reader->name, reader->line);
                }
                reader->at = newline ? newline + 1 : end;
        }
        if (rc == 0 && section != NULL) {
                free(section->sql);
                section->sql = buf_take(&text);
        }
        return rc;
}

static int parse_name(const char *name, struct migration *migration, struct err *err)
{
        size_t digits = strspn(name, "0123456789"), length = strlen(name);

        if (digits == 0 || digits > 50 || length < 5 || strcmp(name + length - 4, ".sql") != 0)
                return err_field(err, name, "%s: a migration's name begins with its version in digits and ends in .sql",
                                 name);
        migration->version = mem_copy_bytes(name, digits);
        migration->name = mem_copy_text(name);
        return 0;
}

int migration_parse(const char *name, const char *bytes, size_t length, struct migration *ret, struct err *err)
{
        struct reader reader = { .name = name, .at = bytes, .end = bytes + length };
        struct migration migration = { 0 };
        struct crypto_digest digest;
        auto_free char *hex = NULL;
        int rc = parse_name(name, &migration, err);

        if (rc == 0 && length > FILE_LIMIT)
                rc = err_field(err, name, "%s is larger than %d bytes", name, FILE_LIMIT);
        if (rc == 0 && memchr(bytes, '\0', length) != NULL)
                rc = err_field(err, name, "%s has a NUL byte", name);
        if (rc == 0)
                rc = parse_body(&reader, &migration, err);
        if (rc == 0 && migration.up.sql == NULL)
                rc = err_field(err, name, "%s has no migrate:up", name);
        if (rc == 0 && migration.down.sql == NULL)
                rc = err_field(err, name, "%s has no migrate:down (it may be empty)", name);
        if (rc < 0) {
                migration_release(&migration);
                return rc;
        }
        crypto_sha256(bytes, length, &digest);
        hex = crypto_hex(digest.bytes, sizeof(digest.bytes));
        memcpy(migration.checksum, hex, sizeof(migration.checksum));
        *ret = migration;
        return 0;
}

void migration_release(struct migration *migration)
{
        free(migration->version);
        free(migration->name);
        free(migration->up.sql);
        free(migration->down.sql);
        memset(migration, 0, sizeof(*migration));
}

/* A text goes on in quotes on a later line, and its backslashes still count; NULL where it does not. */
static const char *continuation(const char *p)
{
        bool new_line = false;

        for (; isspace((unsigned char)*p); p++)
                new_line |= *p == '\n' || *p == '\r';
        return new_line && *p == '\'' ? p : NULL;
}

/* Past a quoted piece that begins at p, or to the end of the text where it never closes. */
static const char *skip_quoted(const char *p, bool escapes)
{
        char quote = *p++;

        for (; *p; p++) {
                if (escapes && *p == '\\' && p[1])
                        p++;
                else if (*p == quote && p[1] == quote)
                        p++;
                else if (*p == quote && escapes && continuation(p + 1) != NULL)
                        p = continuation(p + 1);
                else if (*p == quote)
                        return p + 1;
        }
        return p;
}

static const char *skip_block_comment(const char *p)
{
        int depth = 0;

        do {
                if (p[0] == '/' && p[1] == '*')
                        depth++, p += 2;
                else if (p[0] == '*' && p[1] == '/')
                        depth--, p += 2;
                else
                        p++;
        } while (*p && depth > 0);
        return p;
}

/* $tag$ ... $tag$; a $ that opens nothing is passed by. */
static const char *skip_dollar_quoted(const char *p)
{
        const char *tag_end = p + 1;
        auto_free char *tag = NULL;
        const char *close;

        while (isalnum((unsigned char)*tag_end) || *tag_end == '_' || (unsigned char)*tag_end >= 0x80)
                tag_end++;
        if (*tag_end != '$' || isdigit((unsigned char)p[1]))
                return p + 1;
        tag = mem_copy_bytes(p, (size_t)(tag_end - p + 1));
        close = strstr(tag_end + 1, tag);
        return close ? close + strlen(tag) : tag_end + strlen(tag_end);
}

static bool is_word(char c)
{
        return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

/* The words of a SQL-standard function body, whose statements end with semicolons of their own. */
static int atomic_depth(const char *word, size_t length, int depth, bool after_begin)
{
        if (after_begin && length == 6 && strncasecmp(word, "atomic", 6) == 0)
                return depth + 1;
        if (depth > 0 && length == 4 && strncasecmp(word, "case", 4) == 0)
                return depth + 1;
        if (depth > 0 && length == 3 && strncasecmp(word, "end", 3) == 0)
                return depth - 1;
        return depth;
}

size_t migration_next_statement(const char *sql)
{
        const char *p = sql;
        int depth = 0, parentheses = 0;
        bool after_begin = false;

        while (*p) {
                if (*p == ';' && depth == 0 && parentheses == 0)
                        return (size_t)(p + 1 - sql);
                if (*p == '\'' || *p == '"') {
                        bool escapes = *p == '\'' && p > sql && (p[-1] == 'e' || p[-1] == 'E') &&
                                       (p - 1 == sql || (!is_word(p[-2]) && p[-2] != '$'));

                        p = skip_quoted(p, escapes);
                } else if (p[0] == '-' && p[1] == '-') {
                        p += strcspn(p, "\r\n");
                } else if (p[0] == '/' && p[1] == '*') {
                        p = skip_block_comment(p);
                } else if (*p == '$') {
                        p = skip_dollar_quoted(p);
                } else if (is_word(*p)) {
                        const char *word = p;

                        while (is_word(*p) || *p == '$')
                                p++;
                        depth = atomic_depth(word, (size_t)(p - word), depth, after_begin);
                        after_begin = p - word == 5 && strncasecmp(word, "begin", 5) == 0;
                } else {
                        parentheses += *p == '(' ? 1 : *p == ')' && parentheses > 0 ? -1 : 0;
                        after_begin &= isspace((unsigned char)*p) != 0; /* "select 1 as begin, atomic" is no body */
                        p++;
                }
        }
        return (size_t)(p - sql);
}
