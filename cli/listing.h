/* Lists and things as every command shows them: a table that fits the terminal, or what -o says. */
#pragma once

#include "cli/cli.h"

struct column {
        const char *heading;
        const char *member;               /* what stands in it, and its name for --sort: "plan", "access.applied" */
        char *(*cell)(const json_t *row); /* or what makes it of the row; the caller frees */
        bool wide;                        /* only with -o wide */
};

struct listing {
        const char *items;            /* the answer's member that has the rows */
        const char *none;             /* said on standard error where there is no row */
        const char *names[3];         /* the members that name a row for other commands, the best first */
        const char *id;               /* the member that no two rows share, for --watch */
        const struct column *columns; /* ends with a NULL heading; the first one is the last to be cut */
        bool (*told)(
                const json_t *answer); /* may show it to people in a way of its own; false: as a table. NULL: none */
};

/* --limit, --sort and --watch of a list. */
struct listing_wish {
        int64_t limit;    /* 0: as many as the gateway gives */
        int64_t watch_ms; /* 0: once */
        const char *sort; /* NULL: as the gateway has it */
};

#define LISTING_OPTIONS "[--sort FIELD] [--limit N] [--watch[=TIME]]"

/* Takes the options out of argv. Complains and returns EXIT_USAGE for a bad value. */
int listing_options(int *argc, char **argv, struct listing_wish *ret);
/* Fetches the answer (which the caller of fetch releases), sorts its rows by --sort unless sorted says that the gateway
 * has done it, and shows it; with --watch again and again, until a signal comes or nobody reads any more. Returns an
 * exit code. */
int listing_run(const struct listing *listing, const struct listing_wish *wish, bool sorted,
                int (*fetch)(void *context, json_t **ret), void *context);

/* The answer (borrowed) on standard output. On a terminal a table is cut until it fits, and loses its last columns
 * where that is not enough; -o wide, and a table that is no terminal's, has everything. */
void listing_show(const struct listing *listing, const json_t *answer);
/* The same, as a table also where people are told otherwise. */
void listing_show_table(const struct listing *listing, const json_t *answer);
/* More rows of a list that was shown before: no heading, and columns no narrower than they were. */
void listing_show_more(const struct listing *listing, const json_t *answer);
/* "access.applied" of a row; borrowed, NULL where it has none. */
const json_t *listing_member(const json_t *row, const char *path);
/* What -o json, yaml, name or wide make of one thing. False where it is to be shown to people in the command's own
 * way. */
bool listing_show_one(const struct listing *listing, const json_t *thing);
/* Cells that many have. */
char *listing_time(const json_t *row, const char *member);
