/* Migration files in dbmate's format (its README: "-- migrate:up", "-- migrate:down", option transaction:false), parsed
 * strictly: what dbmate silently ignores is an error here. */
#pragma once

#include "common/base/err.h"

#define MIGRATION_FILE_LIMIT (4 * 1024 * 1024) /* bytes */

/* A part of a section that stands as one in the file: from this offset on, beginning with this line of the file. */
struct migration_piece {
        size_t offset;
        int line;
};

/* What brings a database forward, or back: all that the file's migrate:up say, in their order, or its migrate:down, the
 * last one first, since it undoes what was done last. */
struct migration_section {
        char *sql;
        struct migration_piece *pieces; /* one for each migrate:up or :down; at least one */
        size_t piece_count;
        /* Where one of several runs without a transaction, all do: the others begin and end their own in sql. */
        bool transaction;
};

/* A line "-- tenantry:allow RULE why", wherever in the file it stands; both may be empty. */
struct migration_allow {
        char *rule, *why;
        int line;
};

struct migration {
        char *version; /* the leading digits of the file's name */
        char *name;    /* the file's name */
        char *text;    /* the file as it is */
        struct migration_section up, down;
        char *verify;                   /* a query that returns true if the file did what it should; NULL = none */
        struct migration_allow *allows; /* at most 100 */
        size_t allow_count;
        char checksum[65]; /* SHA-256 of the file's bytes, hexadecimal */
};

struct migration_set {
        struct migration *items; /* sorted by name, as bytes */
        size_t count;
};

#define MIGRATION_FILE_LIMIT   (4 * 1024 * 1024) /* bytes */
#define MIGRATION_VERIFY_LIMIT (64 * 1024)

/* Returns 0 and fills *ret (released with migration_release), or -ERR_INPUT naming file and line. */
int migration_parse(const char *name, const char *bytes, size_t length, struct migration *ret, struct err *err);
void migration_release(struct migration *migration);

/* What migration_parse checks first, for SQL that is to become a file: its size, no NUL, no byte order mark, UTF-8.
 * name is what the error calls the text. Returns 0 or -ERR_INPUT. */
int migration_check_bytes(const char *name, const char *bytes, size_t length, struct err *err);
/* That no quote and no comment is left open at its end. Returns 0, or -ERR_INPUT with the line where it was opened. */
int migration_check_quotes(const char *name, const struct migration_section *section, struct err *err);
/* Whether the line (up to end) would begin a section: "-- migrate:up", "-- migrate:down". */
bool migration_is_directive(const char *line, const char *end);

/* Whether its migrate:down does anything. */
bool migration_is_reversible(const struct migration *migration);

/* One file, or all of a directory whose names end in .sql, each with the content of NAME.verify where NAME.sql has such
 * a file beside it; other files of a directory are ignored. Returns 0 and *ret (freed with migration_set_free); or
 * -ERR_INPUT: unreadable, a bad file, two files with the same version. */
int migration_set_load(const char *path, struct migration_set **ret, struct err *err);
/* Parses a file and adds it to the set, which is in order only after migration_set_sort. verify may be NULL. Returns 0,
 * or -ERR_INPUT: a bad file, or more than 10,000. */
int migration_set_add(struct migration_set *set, const char *name, const char *bytes, size_t length, const char *verify,
                      struct err *err);
/* Returns 0, or -ERR_INPUT for two files with the same version. */
int migration_set_sort(struct migration_set *set, struct err *err);
/* NULL is fine. */
void migration_set_free(struct migration_set *set);

/* Splits SQL into its statements as psql would: quotes, dollar quotes, comments and parentheses of BEGIN ATOMIC aside.
 * Returns the length of the first statement of sql, its semicolon included; 0 at the end. */
size_t migration_next_statement(const char *sql);
/* The length of the blanks and comments at the start of a statement; its whole length if it is nothing else, which
 * PostgreSQL does not count as a statement. */
size_t migration_statement_start(const char *statement, size_t length);

/* The length of a verify's statement, without its semicolon; 0 unless it is exactly one. */
size_t migration_verify_length(const char *verify);

/* A position in a file, all counted from 1: columns in characters, as PostgreSQL and editors count them. */
struct migration_place {
        int statement, line, column;
};

/* Of the byte at offset in section->sql; statements are counted within their migrate:up or :down. */
struct migration_place migration_place(const struct migration_section *section, size_t offset);
/* The byte at which the nth character of sql begins, counted from 1; the end if there are fewer. */
size_t migration_character_offset(const char *sql, int64_t position);

/* What a migration must not contain: the begin or end of a transaction (it is one itself; anything after its end would
 * run outside ledger and fence), unless it runs without one; in that case, anything that would be lost with the session
 * of a dead worker and cannot be restored (temporary tables, for instance); and COPY from or to the client, since a
 * file has no place for the data. Returns what is wrong with the statement, for a person, or NULL. */
const char *migration_statement_wrong(const char *statement, size_t length, bool transaction);
