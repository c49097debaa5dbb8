/* SQL cut into tokens: see token.h. */
#include "common/migration/token.h"

#include "common/base/memory.h"

#include <ctype.h>
#include <string.h>

static bool token_is_word_character(char c)
{
        return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

/* A string may continue in quotes on a later line, with the same backslash rules; NULL if it does not. */
static const char *token_continuation(const char *p)
{
        bool new_line = false;

        for (; isspace((unsigned char)*p); p++)
                new_line |= *p == '\n' || *p == '\r';
        return new_line && *p == '\'' ? p : NULL;
}

/* Skips a quoted piece that begins at p; to the end of the text if it is never closed. */
static const char *token_skip_quoted(const char *p, bool escapes, bool *ret_open)
{
        char quote = *p++;

        for (; *p; p++) {
                if (escapes && *p == '\\' && p[1])
                        p++;
                else if (*p == quote && p[1] == quote)
                        p++;
                else if (*p == quote && escapes && token_continuation(p + 1) != NULL)
                        p = token_continuation(p + 1);
                else if (*p == quote)
                        return p + 1;
        }
        *ret_open = true;
        return p;
}

static const char *token_skip_block_comment(const char *p, bool *ret_open)
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
        *ret_open = depth > 0;
        return p;
}

/* $tag$ ... $tag$; NULL for a $ that opens nothing. */
static const char *token_skip_dollar_quoted(const char *p, bool *ret_open)
{
        const char *tag_end = p + 1;
        auto_free char *tag = NULL;
        const char *close;

        while (token_is_word_character(*tag_end))
                tag_end++;
        if (*tag_end != '$' || isdigit((unsigned char)p[1]))
                return NULL;
        tag = mem_copy_bytes(p, (size_t)(tag_end - p + 1));
        close = strstr(tag_end + 1, tag);
        *ret_open = close == NULL;
        return close ? close + strlen(tag) : tag_end + strlen(tag_end);
}

/* Skips blanks and comments. */
static const char *token_skip_between(const char *p, const char *end, bool *ret_open)
{
        while (*p && p != end) {
                if (isspace((unsigned char)*p))
                        p++;
                else if (p[0] == '-' && p[1] == '-')
                        p += strcspn(p, "\r\n");
                else if (p[0] == '/' && p[1] == '*')
                        p = token_skip_block_comment(p, ret_open);
                else
                        break;
        }
        return p;
}

static const char *token_skip(const char *p, struct token *token)
{
        const char *behind;

        if (*p == '\'' || *p == '"') {
                token->kind = *p == '"' ? TOKEN_QUOTED_NAME : TOKEN_TEXT;
                return token_skip_quoted(p, false, &token->open);
        }
        if ((*p == 'e' || *p == 'E') && p[1] == '\'') {
                token->kind = TOKEN_TEXT;
                return token_skip_quoted(p + 1, true, &token->open);
        }
        if (*p == '$' && (behind = token_skip_dollar_quoted(p, &token->open)) != NULL) {
                token->kind = TOKEN_TEXT;
                return behind;
        }
        if (!token_is_word_character(*p)) {
                token->kind = TOKEN_MARK;
                return p + 1;
        }
        token->kind = TOKEN_WORD;
        while (token_is_word_character(*p) || *p == '$')
                p++;
        return p;
}

struct token token_next(const char **at, const char *end)
{
        struct token token = { .kind = TOKEN_END };
        const char *p = token_skip_between(*at, end, &token.open);

        token.at = token.open ? *at + strspn(*at, " \t\r\n") : p;
        if (*p && p != end)
                p = token_skip(p, &token);
        token.length = (size_t)(p - token.at);
        *at = p;
        return token;
}

bool token_is(const struct token *token, const char *word)
{
        return token->kind == TOKEN_WORD && strlen(word) == token->length &&
               strncasecmp(token->at, word, token->length) == 0;
}

bool token_is_one_of(const struct token *token, const char *const *words)
{
        for (; *words != NULL; words++)
                if (token_is(token, *words))
                        return true;
        return false;
}

bool token_is_mark(const struct token *token, char mark)
{
        return token->kind == TOKEN_MARK && *token->at == mark;
}
