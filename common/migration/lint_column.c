/* New columns of tables that were there before: see lint_private.h. */
#include "common/base/memory.h"
#include "common/migration/lint_private.h"

#include <string.h>

/* Neither volatile functions nor types, where a parenthesis follows. What PostgreSQL does not bring itself counts as
 * volatile: a function is unless it says otherwise. */
static const char HARMLESS[] =
        " abs and any array array_fill as between bit bpchar btrim case cast ceil char char_length "
        "character chr coalesce concat concat_ws convert_from convert_to current_setting current_time "
        "current_timestamp date date_part date_trunc daterange decimal decode else encode extract float "
        "floor format greatest in initcap int4range int8range interval json_build_array "
        "json_build_object jsonb_build_array jsonb_build_object least left length localtime "
        "localtimestamp lower lpad ltrim make_date make_interval make_time make_timestamp "
        "make_timestamptz md5 mod not now nullif numeric numrange or overlay position power "
        "regexp_replace repeat replace reverse right round row rpad rtrim sha256 split_part sqrt "
        "statement_timestamp string_to_array substr substring then time timestamp timestamptz timetz "
        "timezone to_char to_date to_json to_jsonb to_number to_timestamp transaction_timestamp "
        "translate trim trunc tsrange tstzrange upper varbit varchar varying when ";

/* What can follow a column's default. */
static const char *const AFTER_DEFAULT[] = { "not",     "null",       "unique",     "primary",
                                             "check",   "references", "constraint", "generated",
                                             "collate", "deferrable", "initially",  NULL };

/* A new column, as far as it is read. */
struct column_parts {
        bool filled, differs; /* rows get a value of their own; not all the same */
        bool not_null, indexed, checked, refers;
};

static bool column_is_harmless(const struct token *token)
{
        auto_free char *word = mem_copy_bytes(token->at, token->length);
        auto_free char *framed = mem_printf(" %s ", word);

        return token->kind == TOKEN_WORD && strcasestr(HARMLESS, framed) != NULL;
}

/* Takes a default, and tells whether it calls something that is not known to give all rows the same. */
static bool column_take_volatile(struct lint_words *words)
{
        bool found = false, is_type = false;
        int depth = 0;

        while (words->token.kind != TOKEN_END && (depth > 0 || !token_is_one_of(&words->token, AFTER_DEFAULT))) {
                const struct token token = words->token;

                lint_next(words);
                depth += token_is_mark(&token, '(') - token_is_mark(&token, ')');
                if (token.kind == TOKEN_QUOTED_NAME || token.kind == TOKEN_WORD)
                        found |= token_is_mark(&words->token, '(') && !is_type && !column_is_harmless(&token);
                is_type = token_is_mark(&token, ':');
        }
        return found;
}

/* generated always|by default as identity; generated always as (expression) [stored|virtual] */
static void column_take_generated(struct lint_words *words, struct column_parts *column)
{
        column->filled = true;
        lint_find(words, "as");
        lint_next(words);
        if (token_is_mark(&words->token, '(')) {
                lint_skip(words);
                column->differs |= token_is(&words->token, "stored");
        } else {
                column->differs |= token_is(&words->token, "identity");
        }
        lint_next(words);
}

static void column_take_part(struct lint_words *words, struct column_parts *column)
{
        static const char *const serials[] = { "serial",  "bigserial", "smallserial", "serial4",
                                               "serial8", "serial2",   NULL };

        if (lint_take(words, "default")) {
                column->filled |= !token_is(&words->token, "null");
                lint_take(words, "null");
                column->differs |= column_take_volatile(words);
        } else if (lint_take(words, "generated")) {
                column_take_generated(words, column);
        } else if (lint_take_one_of(words, serials)) {
                column->filled = column->differs = column->not_null = true;
        } else if (lint_take_two(words, "not", "null")) {
                column->not_null = true;
        } else if (lint_take(words, "primary")) {
                column->indexed = column->not_null = true;
        } else if (lint_take(words, "unique")) {
                column->indexed = true;
        } else if (lint_take(words, "check")) {
                column->checked = true;
        } else if (lint_take(words, "references")) {
                column->refers = true;
        } else {
                if (token_is(&words->token, "constraint") ||
                    token_is(&words->token, "set")) /* its name; or a default, */
                        lint_next(words);           /* as "on delete" sets it */
                lint_skip(words);
        }
}

void lint_add_column(struct lint *lint, const char *at, const char *table, struct lint_words *words)
{
        auto_free char *name = lint_take_word(words), *part = NULL;
        struct column_parts column = { 0 };
        struct lint_object *made;

        if (name == NULL)
                return;
        while (words->token.kind != TOKEN_END)
                column_take_part(words, &column);
        part = lint_part(table, name);
        made = lint_make(lint, "column", part);
        made->filled = column.filled;
        made->not_null = column.not_null;
        if (column.not_null && !column.filled)
                lint_report(lint, LINT_NOT_NULL, at, part);
        if (column.differs)
                lint_report(lint, LINT_VOLATILE_DEFAULT, at, part);
        if (column.indexed)
                lint_report(lint, LINT_INDEX_NOT_CONCURRENTLY, at, part);
        if (column.checked || (column.refers && column.filled)) /* PostgreSQL knows that nulls refer to nothing */
                lint_report(lint, LINT_CONSTRAINT_SCAN, at, part);
}
