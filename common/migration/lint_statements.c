/* Statements other than "alter": create, drop, revoke, update, delete and truncate: see lint_private.h. */
#include "common/base/memory.h"
#include "common/migration/lint_private.h"

#include <string.h>

/* Words between "create" or "drop" and what is created or dropped. */
static const char *const MODIFIERS[] = { "global", "local",     "temp",         "temporary", "unlogged",
                                         "unique", "recursive", "materialized", "foreign",   "constraint",
                                         "event",  "trusted",   "procedural",   "default",   NULL };

static bool statement_is_unique(struct lint_words *words)
{
        bool unique = false;

        while (token_is_one_of(&words->token, MODIFIERS)) {
                unique |= token_is(&words->token, "unique");
                lint_next(words);
        }
        return unique;
}

/* Objects that belong to a table have names of their own within it: "NAME on TABLE". */
static bool statement_is_on_table(const char *kind)
{
        static const char *const kinds[] = { "trigger", "policy", "rule" };

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (strcmp(kinds[i], kind) == 0)
                        return true;
        return false;
}

/* An index is in the schema of its table. */
static char *statement_index_name(const char *table, const char *index)
{
        return mem_printf("%.*s.%s", (int)strcspn(table, "."), table, index);
}

/* Behind "create index" and "concurrently". */
static void statement_create_index(struct lint *lint, const char *at, bool unique, struct lint_words *words)
{
        bool concurrently = lint_take(words, "concurrently"), condition = lint_take_condition(words);
        auto_free char *index = token_is(&words->token, "on") ? NULL : lint_take_word(words), *table = NULL;
        auto_free char *name = NULL;

        lint_take(words, "on");
        lint_take(words, "only");
        table = lint_take_name(words);
        if (table == NULL)
                return;
        name = index ? statement_index_name(table, index) : mem_copy_text(table);
        if (!condition)
                lint_report_repeated(lint, at, name);
        if (lint_made_relation(lint, table)) {
                lint_make(lint, "index", name);
                return;
        }
        lint->ddl |= !concurrently;
        if (!concurrently)
                lint_report(lint, LINT_INDEX_NOT_CONCURRENTLY, at, name);
        if (unique && !lint_names_made_column(lint, table, *words))
                lint_report(lint, LINT_TIGHTENED_CONSTRAINT, at, name);
}

/* "NAME on TABLE" of a trigger, a policy or a rule, where "on" may come later; sets *ret_table, too. */
static char *statement_name_on_table(struct lint_words *words, const char *before_table, char **ret_table)
{
        auto_free char *name = lint_take_word(words);

        if (name == NULL || !lint_find(words, before_table))
                return NULL;
        lint_next(words);
        *ret_table = lint_take_name(words);
        return *ret_table ? mem_printf("%s on %s", name, *ret_table) : NULL;
}

static void statement_create_other(struct lint *lint, const char *at, const char *kind, bool replaces,
                                   struct lint_words *words)
{
        bool condition = lint_take_condition(words), on_table = statement_is_on_table(kind);
        auto_free char *table = NULL, *name = NULL;
        struct lint_object *object;

        if (!on_table)
                name = lint_take_name(words);
        else
                name = statement_name_on_table(words, strcmp(kind, "rule") == 0 ? "to" : "on", &table);
        if (name == NULL)
                return;
        lint->ddl |= on_table && !lint_made_relation(lint, table);
        object = lint_note(lint, kind, name);
        if (!condition && !replaces && !object->cleared)
                lint_report_repeated(lint, at, name);
        if (on_table) /* its drop has made way for this, so it was none */
                lint_withdraw(&lint->found, object->finding);
        lint_make(lint, kind, name);
}

void lint_create(struct lint *lint, const char *at, struct lint_words *words)
{
        bool replaces = lint_take_two(words, "or", "replace"), unique = statement_is_unique(words);
        auto_free char *kind = lint_take_word(words);

        if (kind == NULL)
                return;
        if (strcmp(kind, "index") == 0)
                statement_create_index(lint, at, unique, words);
        else
                statement_create_other(lint, at, kind, replaces, words);
}

static void statement_drop_table(struct lint *lint, const char *at, const char *name)
{
        const struct lint_object *made = lint_made(lint, "table", name);

        lint->ddl |= made == NULL;
        if (made == NULL)
                lint_report(lint, LINT_DROP_TABLE, at, name);
        if (lint->in_down && (made == NULL || !made->in_down))
                lint_report(lint, LINT_DOWN_LOSES_DATA, at, name);
}

static void statement_drop_other(struct lint *lint, const char *at, const char *kind, const char *name)
{
        const struct lint_object *made = lint_made(lint, kind, name);

        lint->ddl |= made == NULL && (statement_is_on_table(kind) || strcmp(kind, "view") == 0);
        if (made == NULL)
                lint_note(lint, kind, name)->finding = lint_report(lint, LINT_DROP_OBJECT, at, name);
        if (strcmp(kind, "schema") == 0 && lint->in_down && (made == NULL || !made->in_down))
                lint_report(lint, LINT_DOWN_LOSES_DATA, at, name);
}

static void statement_drop_one(struct lint *lint, const char *kind, bool condition, bool concurrently,
                               struct lint_words words)
{
        auto_free char *table = NULL, *name = NULL;
        const char *at = words.token.at;

        name = statement_is_on_table(kind) ? statement_name_on_table(&words, "on", &table) : lint_take_name(&words);
        if (name == NULL) /* of an operator or a cast */
                name = mem_copy_text(kind);
        if (strcmp(kind, "table") == 0)
                statement_drop_table(lint, at, name);
        else if (strcmp(kind, "index") != 0)
                statement_drop_other(lint, at, kind, name);
        else if (!concurrently && lint_made(lint, kind, name) == NULL)
                lint->ddl = true, lint_report(lint, LINT_INDEX_NOT_CONCURRENTLY, at, name);
        if (!condition)
                lint_report_repeated(lint, at, name);
        lint_note(lint, kind, name)->cleared = condition;
        lint_unmake(lint, kind, name);
}

void lint_drop(struct lint *lint, const char *at, struct lint_words *words)
{
        bool concurrently, condition;
        auto_free char *kind = NULL;
        struct lint_words item;

        (void)at;
        statement_is_unique(words);
        kind = lint_take_word(words);
        concurrently = lint_take(words, "concurrently");
        condition = lint_take_condition(words);
        while (kind != NULL && lint_take_item(words, &item))
                statement_drop_one(lint, kind, condition, concurrently, item);
}

/* revoke RIGHTS on [KIND] NAME, NAME from ROLES; or revoke ROLE from ROLES. */
void lint_revoke(struct lint *lint, const char *at, struct lint_words *words)
{
        static const char *const kinds[] = { "table",  "sequence", "function", "procedure",
                                             "schema", "type",     "domain",   NULL };
        auto_free char *kind = NULL, *name = NULL;
        struct lint_words from, item;
        bool on = lint_find(words, "on"), made = on;

        lint_take(words, "on");
        if (lint_take(words, "all") && lint_find(words, "in")) /* all tables in schema NAME */
                lint_next(words);
        if (token_is_one_of(&words->token, kinds))
                kind = lint_take_word(words);
        from = *words;
        lint_find(&from, "from");
        for (*words = lint_words(words->token.at, from.token.at); made && lint_take_item(words, &item);) {
                free(TAKE_PTR(name));
                name = lint_take_name(&item);
                made = name != NULL && (kind && strcmp(kind, "table") != 0 ? lint_made(lint, kind, name) != NULL
                                                                           : lint_made_relation(lint, name));
        }
        if (!made)
                lint_report(lint, LINT_TIGHTENED_RIGHTS, at, name ? name : "");
}

/* The rows that a condition leaves out: none if there is no condition, if it is "true", or if it asks for those in
 * which a column that this file has added is null. */
static bool statement_takes_all_rows(const struct lint *lint, const char *table, struct lint_words words)
{
        auto_free char *word = NULL, *column = NULL;

        if (!lint_find(&words, "where"))
                return true;
        lint_next(&words);
        if (!lint_take(&words, "true")) {
                word = lint_take_word(&words);
                if (lint_take_mark(&words, '.')) {
                        free(word);
                        word = lint_take_word(&words);
                }
                column = lint_part(table, word ? word : "");
                if (lint_made(lint, "column", column) == NULL || !lint_take_two(&words, "is", "null"))
                        return false;
        }
        return words.token.kind == TOKEN_END || token_is_mark(&words.token, ';');
}

static void statement_write_rows(struct lint *lint, const char *at, struct lint_words *words)
{
        auto_free char *table = NULL;

        lint_take(words, "only");
        table = lint_take_name(words);
        if (table != NULL && !lint_made_relation(lint, table) && statement_takes_all_rows(lint, table, *words))
                lint_report(lint, LINT_UPDATE_BESIDE_DDL, at, table);
}

void lint_update(struct lint *lint, const char *at, struct lint_words *words)
{
        statement_write_rows(lint, at, words);
}

/* Rows that migrate:up itself has put in are among them, but who knows what has become of them. */
static void statement_lose_rows(struct lint *lint, const char *at, struct lint_words words)
{
        auto_free char *table = NULL;
        const struct lint_object *made;

        lint_take(&words, "only");
        table = lint_take_name(&words);
        made = table ? lint_made(lint, "table", table) : NULL;
        if (table != NULL && lint->in_down && (made == NULL || !made->in_down))
                lint_report(lint, LINT_DOWN_LOSES_DATA, at, table);
}

void lint_delete(struct lint *lint, const char *at, struct lint_words *words)
{
        lint_take(words, "from");
        statement_lose_rows(lint, at, *words);
        statement_write_rows(lint, at, words);
}

void lint_truncate(struct lint *lint, const char *at, struct lint_words *words)
{
        struct lint_words item;

        (void)at;
        lint_take(words, "table");
        while (lint_take_item(words, &item))
                statement_lose_rows(lint, item.token.at, item);
}
