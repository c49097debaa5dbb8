/* Classifies a statement by its words: see statement_kind.h. */
#include "common/migration/statement_kind.h"

#include "common/base/buf.h"
#include "common/base/memory.h"
#include "common/migration/token.h"

static bool statement_has_word(const char *at, const char *end, const char *word)
{
        struct token token;

        while ((token = token_next(&at, end)).kind != TOKEN_END)
                if (token_is(&token, word))
                        return true;
        return false;
}

/* select set_config(...), and nothing after it. */
static bool statement_is_set_config(const char *at, const char *end)
{
        struct token token = token_next(&at, end);
        int depth = 0;

        if (token_is(&token, "pg_catalog")) {
                token_next(&at, end); /* its dot */
                token = token_next(&at, end);
        }
        if (!token_is(&token, "set_config"))
                return false;
        do {
                token = token_next(&at, end);
                depth += token_is_mark(&token, '(') - token_is_mark(&token, ')');
        } while (depth > 0 && token.kind != TOKEN_END);
        token = token_next(&at, end);
        return token.kind == TOKEN_END || token_is_mark(&token, ';');
}

bool statement_is_of_session(const char *statement, size_t length)
{
        static const char *const words[] = { "set",   "reset",    "begin",     "start",   "commit", "end",
                                             "abort", "rollback", "savepoint", "release", NULL };
        const char *at = statement, *end = statement + length;
        struct token first = token_next(&at, end), second;

        if (token_is(&first, "select"))
                return statement_is_set_config(at, end);
        second = token_next(&at, end);
        return token_is_one_of(&first, words) && !token_is(&second, "prepared");
}

bool statement_is_begin(const char *statement, size_t length)
{
        static const char *const words[] = { "begin", "start", NULL };
        struct token first = token_next(&statement, statement + length);

        return token_is_one_of(&first, words);
}

bool statement_is_concurrent(const char *statement, size_t length)
{
        const char *at = statement, *end = statement + length;
        struct token first = token_next(&at, end), second = token_next(&at, end);

        if (token_is(&first, "create") && token_is(&second, "unique"))
                second = token_next(&at, end);
        if (token_is(&first, "create") || token_is(&first, "drop"))
                return token_is(&second, "index") && statement_has_word(at, end, "concurrently");
        if (token_is(&first, "alter"))
                return token_is(&second, "table") && statement_has_word(at, end, "detach") &&
                       statement_has_word(at, end, "concurrently");
        return token_is(&first, "reindex") && statement_has_word(at, end, "concurrently");
}

bool statement_is_alone(const char *statement, size_t length)
{
        static const char *const objects[] = { "database", "tablespace", NULL };
        const char *at = statement, *end = statement + length;
        struct token first = token_next(&at, end), second = token_next(&at, end);

        if (token_is(&first, "create") || token_is(&first, "drop"))
                return token_is_one_of(&second, objects) || statement_is_concurrent(statement, length);
        return token_is(&first, "vacuum") || (token_is(&first, "alter") && token_is(&second, "system")) ||
               statement_is_concurrent(statement, length);
}

static bool statement_token_is_name(const struct token *token)
{
        return token->kind == TOKEN_WORD || token->kind == TOKEN_QUOTED_NAME;
}

/* A name, possibly qualified; afterwards *token is the one after it. */
static char *statement_take_name(const char **at, const char *end, struct token *token)
{
        auto_buf name = { 0 };

        while (statement_token_is_name(token) || token_is_mark(token, '.')) {
                bool was_name = statement_token_is_name(token);

                buf_add(&name, token->at, token->length);
                *token = token_next(at, end);
                if (was_name && statement_token_is_name(token))
                        break;
        }
        return buf_take(&name);
}

void statement_index(const char *statement, size_t length, char **ret_index, char **ret_table)
{
        const char *at = statement, *end = statement + length;
        struct token token = token_next(&at, end);

        *ret_index = *ret_table = NULL;
        if (!token_is(&token, "create"))
                return;
        token = token_next(&at, end);
        if (token_is(&token, "unique"))
                token = token_next(&at, end);
        if (!token_is(&token, "index"))
                return;
        token = token_next(&at, end);
        if (!token_is(&token, "concurrently"))
                return;
        token = token_next(&at, end);
        if (token_is(&token, "if")) { /* not exists */
                token_next(&at, end);
                token_next(&at, end);
                token = token_next(&at, end);
        }
        if (!token_is(&token, "on"))
                *ret_index = statement_take_name(&at, end, &token);
        token = token_next(&at, end); /* behind "on" */
        if (token_is(&token, "only"))
                token = token_next(&at, end);
        *ret_table = statement_take_name(&at, end, &token);
        if (**ret_table == '\0') { /* PostgreSQL will say what is wrong with it */
                free(TAKE_PTR(*ret_index));
                free(TAKE_PTR(*ret_table));
        }
}
