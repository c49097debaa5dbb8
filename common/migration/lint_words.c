/* The words of one statement, one after the other: see lint_private.h. */
#include "common/base/buf.h"
#include "common/base/memory.h"
#include "common/migration/lint_private.h"

#include <ctype.h>

void lint_next(struct lint_words *words)
{
        words->token = token_next(&words->at, words->end);
}

struct lint_words lint_words(const char *at, const char *end)
{
        struct lint_words words = { .at = at, .end = end };

        lint_next(&words);
        return words;
}

bool lint_take(struct lint_words *words, const char *word)
{
        if (!token_is(&words->token, word))
                return false;
        lint_next(words);
        return true;
}

bool lint_take_mark(struct lint_words *words, char mark)
{
        if (!token_is_mark(&words->token, mark))
                return false;
        lint_next(words);
        return true;
}

bool lint_take_one_of(struct lint_words *words, const char *const *list)
{
        if (!token_is_one_of(&words->token, list))
                return false;
        lint_next(words);
        return true;
}

bool lint_take_two(struct lint_words *words, const char *first, const char *second)
{
        struct lint_words ahead = *words;

        if (!lint_take(&ahead, first) || !lint_take(&ahead, second))
                return false;
        *words = ahead;
        return true;
}

bool lint_take_condition(struct lint_words *words)
{
        struct lint_words ahead = *words;

        if (!lint_take(&ahead, "if"))
                return false;
        lint_take(&ahead, "not");
        if (!lint_take(&ahead, "exists"))
                return false;
        *words = ahead;
        return true;
}

char *lint_take_word(struct lint_words *words)
{
        const struct token token = words->token;
        bool quoted = token.kind == TOKEN_QUOTED_NAME;
        const char *p = token.at + quoted, *end = token.at + token.length;
        auto_buf name = { 0 };

        if (!quoted && token.kind != TOKEN_WORD)
                return NULL;
        if (quoted && end > p && end[-1] == '"')
                end--;
        for (; p < end; p++) {
                char c = quoted ? *p : (char)tolower((unsigned char)*p);

                buf_add(&name, &c, 1);
                if (quoted && *p == '"' && p + 1 < end) /* written twice */
                        p++;
        }
        lint_next(words);
        return buf_take(&name);
}

char *lint_take_name(struct lint_words *words)
{
        auto_free char *last = lint_take_word(words), *schema = NULL;

        while (last != NULL && lint_take_mark(words, '.')) { /* a database's name may precede them */
                free(schema);
                schema = TAKE_PTR(last);
                last = lint_take_word(words);
        }
        return last ? mem_printf("%s.%s", schema ? schema : "public", last) : NULL;
}

void lint_skip(struct lint_words *words)
{
        int depth = 0;

        do {
                if (token_is_mark(&words->token, '(') || token_is_mark(&words->token, '['))
                        depth++;
                else if (token_is_mark(&words->token, ')') || token_is_mark(&words->token, ']'))
                        depth--;
                lint_next(words);
        } while (depth > 0 && words->token.kind != TOKEN_END);
}

bool lint_find(struct lint_words *words, const char *word)
{
        while (words->token.kind != TOKEN_END && !token_is(&words->token, word))
                lint_skip(words);
        return words->token.kind != TOKEN_END;
}

static bool words_at_end(const struct lint_words *words)
{
        return words->token.kind == TOKEN_END || token_is_mark(&words->token, ';');
}

bool lint_take_item(struct lint_words *words, struct lint_words *ret)
{
        *ret = *words;
        if (words_at_end(words))
                return false;
        while (!words_at_end(words) && !token_is_mark(&words->token, ','))
                lint_skip(words);
        ret->end = words->token.at;
        if (ret->token.at == ret->end) /* nothing stands before the comma */
                *ret = lint_words(ret->end, ret->end);
        lint_take_mark(words, ',');
        return true;
}
