/* SQL as a row of statements: see migration.h. */
#include "common/base/memory.h"
#include "common/migration/migration.h"

#include <ctype.h>
#include <string.h>

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

/* The next word of a statement, past blanks and comments; returns where it ends, or NULL where there is none. */
static const char *next_word(const char *p, const char *end, const char **ret_word)
{
        while (p < end) {
                if (isspace((unsigned char)*p))
                        p++;
                else if (p[0] == '-' && p[1] == '-')
                        p += strcspn(p, "\r\n");
                else if (p[0] == '/' && p[1] == '*')
                        p = skip_block_comment(p);
                else
                        break;
        }
        if (p >= end || !is_word(*p))
                return NULL;
        *ret_word = p;
        while (p < end && is_word(*p))
                p++;
        return p;
}

static bool is_one_of(const char *word, const char *end, const char *const *list)
{
        for (; *list != NULL; list++)
                if (strlen(*list) == (size_t)(end - word) && strncasecmp(word, *list, (size_t)(end - word)) == 0)
                        return true;
        return false;
}

/* "from stdin" or "to stdout", a word behind the other. */
static bool copies_to_client(const char *p, const char *end)
{
        static const char *const ways[] = { "from", "to", NULL }, *const streams[] = { "stdin", "stdout", NULL };
        bool after_way = false;

        while (p < end) {
                const char *word = p;

                if (!is_word(*p)) {
                        after_way &= isspace((unsigned char)*p) != 0;
                        p++;
                        continue;
                }
                while (p < end && is_word(*p))
                        p++;
                if (after_way && is_one_of(word, p, streams))
                        return true;
                after_way = is_one_of(word, p, ways);
        }
        return false;
}

const char *migration_statement_wrong(const char *statement, size_t length, bool transaction)
{
        static const char *const copy[] = { "copy", NULL };
        static const char *const ends[] = { "begin", "start", "commit", "end", "abort", NULL };
        static const char *const rollback[] = { "rollback", NULL }, *const to[] = { "to", NULL };
        static const char *const prepare[] = { "prepare", NULL }, *const whole[] = { "transaction", "work", NULL };
        const char *end = statement + length, *word = NULL, *after = next_word(statement, end, &word), *next = NULL;
        const char *after_next = after ? next_word(after, end, &next) : NULL;

        if (after == NULL)
                return NULL;
        if (is_one_of(word, after, copy) && copies_to_client(after, end))
                return "copy from stdin and copy to stdout cannot be used in a migration";
        if (!transaction)
                return NULL;
        if (is_one_of(word, after, ends) ||
            (is_one_of(word, after, prepare) && after_next != NULL && is_one_of(next, after_next, whole)))
                return "a migration is one transaction: it cannot begin or end one itself (or say transaction:false)";
        if (is_one_of(word, after, rollback)) { /* to a savepoint is fine */
                if (after_next != NULL && is_one_of(next, after_next, whole))
                        after_next = next_word(after_next, end, &next);
                if (after_next == NULL || !is_one_of(next, after_next, to))
                        return "a migration is one transaction: it cannot roll it back itself";
        }
        return NULL;
}
