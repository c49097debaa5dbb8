/* Looks for what a migration would do to tenants at work: hold their queries up, fail on their rows, or fail the
 * programs of the previous release, which go on working beside those of the next one during a deploy (breaking rules).
 * Only the file is read, no database. docs/migrations.md lists the rules. */
#pragma once

#include "common/base/json.h"
#include "common/migration/migration.h"

struct migration_finding {
        const char *rule, *reason, *safe_way; /* static */
        bool breaking;                        /* stops a run unless it is allowed */
        bool allowed;                         /* by a "-- tenantry:allow RULE why" of the file, which gives why */
        bool in_down;
        size_t offset;                /* in the section's sql */
        struct migration_place place; /* statement 0: of a comment, as those of the linter's own are */
        char *object; /* the table, column, index, ... as the file names it, at most 200 bytes; "" if there is none */
        char *why;    /* NULL unless allowed */
};

struct migration_findings {
        struct migration_finding *items; /* in the order of the file's lines */
        size_t count;
};

/* Fills *ret, which the caller releases. It has at most 1,000 findings, and beyond those at most one of each rule that
 * none of them is of: whether a rule is broken at all is always told. */
void migration_lint(const struct migration *migration, struct migration_findings *ret);
void migration_findings_release(struct migration_findings *findings);
/* How many are breaking and not allowed. */
size_t migration_findings_stopping(const struct migration_findings *findings);
/* A list of {rule, breaking, allowed, why, section, line, statement, object, reason, safe_way}; the caller owns it. */
json_t *migration_findings_json(const struct migration_findings *findings);
/* Whether there is a rule of that name. */
bool migration_rule_is_known(const char *rule);
