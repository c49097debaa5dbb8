/* New constraints of tables that were there before: see lint_private.h. */
#include "common/base/memory.h"
#include "common/migration/lint_private.h"

/* One word after the other, outside parentheses: "not valid" could be a condition, too. */
static bool constraint_says(struct lint_words words, const char *first, const char *second)
{
        while (words.token.kind != TOKEN_END) {
                if (lint_take_two(&words, first, second))
                        return true;
                lint_skip(&words);
        }
        return false;
}

static bool constraint_speaks_of_null(struct lint_words words)
{
        while (words.token.kind != TOKEN_END) {
                if (lint_take_two(&words, "not", "null"))
                        return true;
                lint_next(&words);
        }
        return false;
}

/* The column of "(COLUMN is not null)", or NULL. The caller frees. */
static char *constraint_checked_column(struct lint_words words)
{
        auto_free char *column = NULL;
        size_t open = 0;

        while (lint_take_mark(&words, '('))
                open++;
        column = lint_take_word(&words);
        if (column == NULL || !lint_take_two(&words, "is", "not") || !lint_take(&words, "null"))
                return NULL;
        while (open > 0 && lint_take_mark(&words, ')'))
                open--;
        return open == 0 ? TAKE_PTR(column) : NULL;
}

/* From now on "set not null" need not look at the rows, and programs that write none have failed before. */
static void constraint_note_checked(struct lint *lint, const char *table, const char *column)
{
        auto_free char *part = column ? lint_part(table, column) : NULL;

        if (part != NULL)
                lint_make(lint, "checked column", part);
}

/* The columns that it is about; a check may ask for more than that they are right, so one that speaks of null counts.
 */
static bool constraint_is_on_made_columns(const struct lint *lint, const char *table, bool is_check,
                                          struct lint_words words)
{
        struct lint_words columns = words;

        lint_find(&words, "references");
        columns.end = words.token.at;
        return lint_names_made_column(lint, table, columns) && !(is_check && constraint_speaks_of_null(columns));
}

void lint_add_constraint(struct lint *lint, const char *at, const char *table, struct lint_words *words)
{
        auto_free char *name = lint_take(words, "constraint") ? lint_take_word(words) : NULL;
        auto_free char *part = name ? lint_part(table, name) : mem_copy_text(table), *checked = NULL;
        bool is_check = lint_take(words, "check");
        bool is_index =
                lint_take(words, "unique") || lint_take(words, "exclude") || lint_take_two(words, "primary", "key");
        bool not_valid = constraint_says(*words, "not", "valid");
        struct lint_object *made;

        if (lint_take_two(words, "using", "index") || constraint_says(*words, "not", "enforced"))
                return;
        if (is_check)
                checked = constraint_checked_column(*words);
        if (!constraint_is_on_made_columns(lint, table, is_check, *words))
                lint_report(lint, LINT_TIGHTENED_CONSTRAINT, at, part);
        if (is_index)
                lint_report(lint, LINT_INDEX_NOT_CONCURRENTLY, at, part);
        else if (!not_valid)
                lint_report(lint, LINT_CONSTRAINT_SCAN, at, part);
        if (!not_valid)
                constraint_note_checked(lint, table, checked);
        if (name == NULL)
                return;
        made = lint_make(lint, "constraint", part);
        made->not_valid = not_valid;
        free(made->column);
        made->column = TAKE_PTR(checked);
}

/* In the transaction that has added it, its lock is still held. */
void lint_validate_constraint(struct lint *lint, const char *at, const char *table, struct lint_words *words)
{
        auto_free char *name = lint_take_word(words), *part = name ? lint_part(table, name) : NULL;
        struct lint_object *made = part ? lint_made(lint, "constraint", part) : NULL;

        if (made == NULL)
                return;
        if (made->not_valid && made->transaction == lint->transaction)
                lint_report(lint, LINT_CONSTRAINT_SCAN, at, part);
        made->not_valid = false;
        constraint_note_checked(lint, table, made->column);
}
