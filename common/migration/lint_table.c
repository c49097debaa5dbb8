/* "alter", of tables and of everything else: see lint_private.h. */
#include "common/base/memory.h"
#include "common/migration/lint_private.h"

#include <string.h>

/* The table, view, ... of the file's own goes on under another name. */
static void table_move(struct lint *lint, const char *kind, const char *former, char *name)
{
        if (name != NULL && lint_made(lint, kind, former) != NULL) {
                lint_unmake(lint, kind, former);
                lint_make(lint, kind, name);
        }
        free(name);
}

static void table_rename_column(struct lint *lint, const char *at, const char *table, struct lint_words *words)
{
        auto_free char *former = lint_take_word(words), *part = former ? lint_part(table, former) : NULL;
        const struct lint_object *made = part ? lint_made(lint, "column", part) : NULL;
        auto_free char *name = NULL, *renamed = NULL;
        struct lint_object *now;

        if (made == NULL) {
                lint_report(lint, LINT_RENAME, at, part ? part : table);
                return;
        }
        lint_take(words, "to");
        name = lint_take_word(words);
        renamed = lint_part(table, name ? name : "");
        now = lint_make(lint, "column", renamed);
        now->filled = made->filled;
        now->not_null = made->not_null;
        lint_unmake(lint, "column", part);
}

bool lint_rename(struct lint *lint, const char *at, const char *kind, const char *name, struct lint_words *words)
{
        static const char *const parts[] = { "column", "attribute", NULL };
        bool made = lint_made(lint, kind, name) != NULL, schema = lint_take_two(words, "set", "schema");
        const char *own = strchr(name, '.');
        auto_free char *word = NULL;

        if (!schema && !lint_take(words, "rename"))
                return false;
        lint_report_repeated(lint, at, name);
        if (made && (schema || lint_take(words, "to"))) {
                word = lint_take_word(words);
                table_move(lint, kind, name,
                           schema ? mem_printf("%s%s", word ? word : "", own ? own : "")
                                  : mem_printf("%.*s.%s", (int)strcspn(name, "."), name, word ? word : ""));
        } else if (!made && (schema || token_is(&words->token, "to") || token_is(&words->token, "constraint"))) {
                lint_report(lint, LINT_RENAME, at, name);
        } else if (!made) {
                lint_take_one_of(words, parts);
                table_rename_column(lint, at, name, words);
        }
        return true;
}

static void table_add(struct lint *lint, const char *at, const char *table, bool made, struct lint_words *words)
{
        static const char *const constraints[] = { "constraint", "unique",  "primary", "check",
                                                   "foreign",    "exclude", "not",     NULL };
        bool is_constraint = token_is_one_of(&words->token, constraints), condition;
        auto_free char *name = NULL, *part = NULL;
        struct lint_words ahead;

        lint_take(words, "column");
        condition = lint_take_condition(words);
        ahead = *words;
        if (!is_constraint || lint_take(&ahead, "constraint"))
                name = lint_take_word(&ahead);
        part = name ? lint_part(table, name) : mem_copy_text(table);
        if (!condition && !lint_note(lint, is_constraint ? "constraint" : "column", part)->cleared)
                lint_report_repeated(lint, at, part);
        if (made)
                return;
        if (is_constraint)
                lint_add_constraint(lint, at, table, words);
        else
                lint_add_column(lint, at, table, words);
}

static void table_drop_column(struct lint *lint, const char *at, const char *column)
{
        const struct lint_object *made = lint_made(lint, "column", column);

        if (made == NULL)
                lint_report(lint, LINT_DROP_COLUMN, at, column);
        if (lint->in_down && (made == NULL || !made->in_down))
                lint_report(lint, LINT_DOWN_LOSES_DATA, at, column);
}

static void table_drop(struct lint *lint, const char *at, const char *table, bool made, struct lint_words *words)
{
        bool is_constraint = lint_take(words, "constraint"), condition;
        const char *kind = is_constraint ? "constraint" : "column";
        auto_free char *name = NULL, *part = NULL;

        lint_take(words, "column");
        condition = lint_take_condition(words);
        if ((name = lint_take_word(words)) == NULL)
                return;
        part = lint_part(table, name);
        if (!condition)
                lint_report_repeated(lint, at, part);
        if (!is_constraint && !made)
                table_drop_column(lint, at, part);
        lint_note(lint, kind, part)->cleared = condition;
        lint_unmake(lint, kind, part);
}

/* A value of its own for each new row makes up for what programs of the previous release do not write. */
static void table_set_not_null(struct lint *lint, const char *at, const char *column)
{
        struct lint_object *made = lint_made(lint, "column", column);

        if (made != NULL)
                made->not_null = true;
        if ((made == NULL || !made->filled) && lint_made(lint, "checked column", column) == NULL)
                lint_report(lint, LINT_NOT_NULL, at, column);
}

static void table_drop_default(struct lint *lint, const char *at, const char *column)
{
        struct lint_object *made = lint_made(lint, "column", column);

        if (made != NULL)
                made->filled = false;
        if (made == NULL || made->not_null)
                lint_report(lint, LINT_DROP_DEFAULT, at, column);
}

static void table_alter_column(struct lint *lint, const char *at, const char *table, struct lint_words *words)
{
        auto_free char *name = NULL, *column = NULL;
        struct lint_object *made;

        if (lint_take(words, "constraint")) /* deferrable or not */
                return;
        lint_take(words, "column");
        if ((name = lint_take_word(words)) == NULL)
                return;
        column = lint_part(table, name);
        made = lint_made(lint, "column", column);
        if (lint_take_two(words, "set", "not"))
                table_set_not_null(lint, at, column);
        else if (lint_take_two(words, "drop", "default") || lint_take_two(words, "drop", "identity"))
                table_drop_default(lint, at, column);
        else if (lint_take_two(words, "set", "default") && made != NULL)
                made->filled = true;
        else if (lint_take_two(words, "set", "expression"))
                lint_report(lint, LINT_VOLATILE_DEFAULT, at, column);
        else if ((lint_take(words, "type") || lint_take_two(words, "set", "data")) && made == NULL)
                lint_report(lint, LINT_TYPE_CHANGE, at, column);
}

static void table_act(struct lint *lint, const char *table, bool made, struct lint_words words)
{
        const char *at = words.token.at;

        if (lint_take(&words, "add"))
                table_add(lint, at, table, made, &words);
        else if (lint_take(&words, "drop"))
                table_drop(lint, at, table, made, &words);
        else if (made)
                return;
        else if (lint_take(&words, "alter"))
                table_alter_column(lint, at, table, &words);
        else if (lint_take_two(&words, "validate", "constraint"))
                lint_validate_constraint(lint, at, table, &words);
        else if (lint_take_two(&words, "enable", "row") || lint_take_two(&words, "force", "row"))
                lint_report(lint, LINT_TIGHTENED_RIGHTS, at, table);
}

void lint_alter_table(struct lint *lint, const char *at, struct lint_words *words)
{
        auto_free char *table = NULL;
        struct lint_words item;
        bool made;

        lint_take_condition(words);
        lint_take(words, "only");
        if ((table = lint_take_name(words)) == NULL)
                return;
        lint_take_mark(words, '*');
        made = lint_made_relation(lint, table);
        lint->ddl |= !made;
        if (lint_rename(lint, at, "table", table, words))
                return;
        while (lint_take_item(words, &item))
                table_act(lint, table, made, item);
}

/* Of a composite type: its attributes are columns of whatever has it. */
static void table_alter_type(struct lint *lint, const char *type, struct lint_words words)
{
        const char *at = words.token.at;

        if (lint_take_two(&words, "drop", "attribute"))
                lint_report(lint, LINT_DROP_COLUMN, at, type);
        else if (lint_take_two(&words, "alter", "attribute"))
                lint_report(lint, LINT_TYPE_CHANGE, at, type);
        else if (lint_take_two(&words, "add", "value") && !lint_take_condition(&words))
                lint_report_repeated(lint, at, type);
}

static void table_alter_domain(struct lint *lint, const char *domain, struct lint_words words)
{
        const char *at = words.token.at;

        if (lint_take_two(&words, "set", "not"))
                lint_report(lint, LINT_NOT_NULL, at, domain);
        else if (lint_take(&words, "add"))
                lint_add_constraint(lint, at, domain, &words);
        else if (lint_take_two(&words, "validate", "constraint"))
                lint_validate_constraint(lint, at, domain, &words);
}

void lint_alter(struct lint *lint, const char *at, struct lint_words *words)
{
        static const char *const modifiers[] = { "foreign", "materialized", "event", "procedural", NULL };
        auto_free char *kind = NULL, *name = NULL;
        struct lint_words item;

        lint_take_one_of(words, modifiers);
        if (lint_take(words, "table")) {
                lint_alter_table(lint, at, words);
                return;
        }
        kind = lint_take_word(words);
        lint_take_condition(words);
        name = lint_take_name(words);
        if (kind == NULL || name == NULL)
                return;
        if (token_is_mark(&words->token, '(')) /* of a function */
                lint_skip(words);
        if (lint_take(words, "on")) /* a trigger's, a policy's or a rule's table */
                free(lint_take_name(words));
        if (lint_rename(lint, at, kind, name, words) || lint_made(lint, kind, name) != NULL)
                return;
        while (lint_take_item(words, &item))
                if (strcmp(kind, "type") == 0)
                        table_alter_type(lint, name, item);
                else if (strcmp(kind, "domain") == 0)
                        table_alter_domain(lint, name, item);
}
