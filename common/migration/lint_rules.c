/* The linter's rules in one table, and the list of what was found: see lint.h. */
#include "common/base/memory.h"
#include "common/base/utf8.h"
#include "common/migration/lint_private.h"

#include <string.h>

#define FINDINGS_LIMIT 1000
#define OBJECT_LIMIT   200 /* bytes */

#define OLD      "programs of the previous release "
#define IN_TURN  "; drop it with a later file, which allows this"
#define PORTIONS "in portions, in a file with transaction:false"

const struct lint_rule_row LINT_ROWS[LINT_RULES] = {
        [LINT_DROP_TABLE] = { "drop-table", true, false, OLD "that use the table fail, and its rows are gone",
                              "release programs that do not use it first" IN_TURN },
        [LINT_DROP_COLUMN] = { "drop-column", true, false, OLD "that name the column fail, and its values are gone",
                               "release programs that do not name it first" IN_TURN },
        [LINT_DROP_OBJECT] = { "drop-object", true, false, OLD "that use it fail",
                               "release programs that do not use it first" IN_TURN },
        [LINT_DROP_DEFAULT] = { "drop-default", true, false,
                                OLD "that leave the column out write null, or fail where it must not be null",
                                "release programs that always give a value first" IN_TURN },
        [LINT_RENAME] = { "rename", true, false, OLD "use the former name and fail",
                          "add the new name beside the former one (a column that a trigger keeps the same, a view), "
                          "and "
                          "drop the former with a later file" },
        [LINT_TYPE_CHANGE] = { "type-change", true, true,
                               "the table may be rewritten while nobody can read or write it (few changes are free, "
                               "such as that to text), and " OLD "may write values that no longer fit",
                               "add a column of the new type, fill it " PORTIONS ", and drop the former with a later "
                               "file" },
        [LINT_NOT_NULL] = { "not-null", true, true,
                            "it fails where a row has no value, looks at all rows while nobody can read or write the "
                            "table, and " OLD "that write no value fail",
                            "give a new column a default; for another, add a constraint \"check (... is not null) not "
                            "valid\", validate it in a later file, and set not null there" },
        [LINT_TIGHTENED_CONSTRAINT] = { "tightened-constraint", true, false,
                                        OLD "fail where they write rows that it refuses",
                                        "release programs that keep to it first; add it with a later file, which "
                                        "allows this" },
        [LINT_TIGHTENED_RIGHTS] = { "tightened-rights", true, false, OLD "may fail without the rights it takes away",
                                    "release programs that do without them first; take them away with a later file, "
                                    "which allows this" },
        [LINT_VOLATILE_DEFAULT] = { "volatile-default", false, true,
                                    "each row gets a value of its own, so the table is rewritten while nobody can read "
                                    "or write it",
                                    "add the column without it, set its default in a second statement, and fill the "
                                    "rows there are " PORTIONS },
        [LINT_INDEX_NOT_CONCURRENTLY] = { "index-not-concurrently", false, true,
                                          "until it is done nobody can write to the table, in some cases not even read "
                                          "it",
                                          "create, drop or rebuild the index concurrently, in a file with "
                                          "transaction:false; for a constraint, build a unique index that way and add "
                                          "the constraint \"using index\"" },
        [LINT_CONSTRAINT_SCAN] = { "constraint-scan", false, true,
                                   "all rows are checked while nobody can write to the table",
                                   "add it \"not valid\", and validate it in a later file" },
        [LINT_UPDATE_BESIDE_DDL] = { "update-beside-ddl", false, true,
                                     "all rows are written while the locks of the other statements are held",
                                     "move it to a file of its own; where tables are large, " PORTIONS },
        [LINT_NO_DOWN] = { "no-down", false, false, "a run with this file cannot be rolled back",
                           "write what takes it back below migrate:down" },
        [LINT_DOWN_LOSES_DATA] = { "down-loses-data", false, true,
                                   "a rollback loses what was written since the file was applied",
                                   "mend forward with another file, or have migrate:down keep a copy" },
        [LINT_NOT_IDEMPOTENT] = { "not-idempotent", false, true,
                                  "run again after a failure, from the file's beginning as dbmate does, it fails "
                                  "because it is done already",
                                  "use \"if not exists\", \"if exists\" or \"or replace\"; where there is none of "
                                  "them, precede it with a \"drop ... if exists\"" },
        [LINT_BAD_ALLOW] = { "bad-allow", false, true,
                             "it allows nothing: there is no such rule, or it does not say why",
                             "write -- tenantry:allow RULE and the reason" },
};

enum lint_rule lint_find_rule(const char *name)
{
        enum lint_rule rule = 0;

        while (rule < LINT_RULES && strcmp(LINT_ROWS[rule].name, name) != 0)
                rule++;
        return rule;
}

bool migration_rule_is_known(const char *rule)
{
        return lint_find_rule(rule) < LINT_RULES;
}

static bool lint_has(const struct migration_findings *findings, enum lint_rule rule)
{
        for (size_t i = 0; i < findings->count; i++)
                if (findings->items[i].rule == LINT_ROWS[rule].name)
                        return true;
        return false;
}

ssize_t lint_add(struct migration_findings *findings, enum lint_rule rule, const struct migration_finding *at,
                 const char *object)
{
        const struct lint_rule_row *row = &LINT_ROWS[rule];
        struct migration_finding *finding;

        if (findings->count >= FINDINGS_LIMIT && lint_has(findings, rule))
                return -1;
        findings->items = mem_resize(findings->items, (findings->count + 1) * sizeof(findings->items[0]));
        finding = &findings->items[findings->count];
        *finding = *at;
        finding->rule = row->name;
        finding->breaking = row->breaking && !at->in_down;
        finding->reason = row->reason;
        finding->safe_way = row->safe_way;
        finding->object = mem_copy_bytes(object, utf8_valid_length(object, MIN(strlen(object), OBJECT_LIMIT)));
        return (ssize_t)findings->count++;
}

void lint_withdraw(struct migration_findings *findings, ssize_t index)
{
        if (index >= 0 && findings->count < FINDINGS_LIMIT)
                findings->items[index].rule = NULL;
}

static int lint_by_line(const void *a, const void *b)
{
        const struct migration_finding *one = a, *other = b;

        if (one->place.line != other->place.line)
                return one->place.line < other->place.line ? -1 : 1;
        if (one->place.column != other->place.column)
                return one->place.column < other->place.column ? -1 : 1;
        return strcmp(one->rule, other->rule);
}

void lint_settle(struct migration_findings *findings)
{
        size_t count = 0;

        for (size_t i = 0; i < findings->count; i++)
                if (findings->items[i].rule != NULL)
                        findings->items[count++] = findings->items[i];
                else
                        free(findings->items[i].object);
        findings->count = count;
        if (count > 0)
                qsort(findings->items, count, sizeof(findings->items[0]), lint_by_line);
}

void migration_findings_release(struct migration_findings *findings)
{
        for (size_t i = 0; i < findings->count; i++) {
                free(findings->items[i].object);
                free(findings->items[i].why);
        }
        free(findings->items);
        *findings = (struct migration_findings){ 0 };
}

size_t migration_findings_stopping(const struct migration_findings *findings)
{
        size_t count = 0;

        for (size_t i = 0; i < findings->count; i++)
                count += findings->items[i].breaking && !findings->items[i].allowed;
        return count;
}

json_t *migration_findings_json(const struct migration_findings *findings)
{
        json_t *list = json_array();

        for (size_t i = 0; i < findings->count; i++) {
                const struct migration_finding *each = &findings->items[i];

                json_array_append_new(list,
                                      json_pack("{s:s, s:b, s:b, s:s?, s:s, s:i, s:i, s:s, s:s, s:s}", "rule",
                                                each->rule, "breaking", each->breaking, "allowed", each->allowed, "why",
                                                each->why, "section", each->in_down ? "down" : "up", "line",
                                                each->place.line, "statement", each->place.statement, "object",
                                                each->object, "reason", each->reason, "safe_way", each->safe_way));
        }
        return list;
}
