/* Describes a failure for a person: file, statement, line and column, and everything PostgreSQL says about it. */
#include "common/migration/apply_private.h"

#include <stdio.h>
#include <string.h>

size_t migration_failure_offset(const struct migration_job *job, const struct pg_failure *failure)
{
        const char *script = job->script.data;
        size_t at = 0, length;

        if (failure->position > 0)
                return migration_character_offset(script, failure->position);
        for (int left = failure->statements; (length = migration_next_statement(script + at)) > 0; at += length)
                if (migration_statement_start(script + at, length) < length && left-- == 0)
                        return at + migration_statement_start(script + at, length);
        return at;
}

/* A failed statement of a migration is neither a refused credential nor a transient conflict. */
static enum err_class failure_class_of(const struct err *err, const char *sql)
{
        return sql != NULL && !err_is_transient(err) ? ERR_PERMANENT : err->class;
}

/* "; detail: ..." on one line; nothing if there is none. */
static void failure_say(char *out, size_t size, const char *what, const char *text)
{
        *out = '\0';
        if (text != NULL)
                snprintf(out, size, "; %s: %s", what, text);
        for (char *p = out; *p; p++)
                if (*p == '\n' || *p == '\t' || *p == '\r')
                        *p = ' ';
}

void migration_name_failure(struct migration_job *job, const struct err *err, const struct migration *m,
                            const char *sql)
{
        struct pg_failure failure = pg_failure(job->conn);
        char detail[160], hint[160], where[80] = "";
        const struct migration_section *section;
        struct migration_place place;

        job->failed = *err;
        if (m == NULL)
                return;
        section = migration_section(job, m);
        if (sql != NULL) {
                place = migration_place(section, (size_t)(sql - section->sql));
                snprintf(where, sizeof(where), "statement %d, line %d, column %d: ", place.statement, place.line,
                         place.column);
        }
        failure_say(detail, sizeof(detail), "detail", failure.detail);
        failure_say(hint, sizeof(hint), "hint", failure.hint);
        err_set(&job->failed, failure_class_of(err, sql), err->code, "migration %.100s: %s%.220s%s%s", m->name, where,
                err->message, detail, hint);
}
