/* Shows lists and single objects for all commands: as a table that fits the terminal, or in the format given by -o. */
#pragma once

#include "cli/cli.h"

struct column {
        const char *heading;
        const char *member;               /* the member it shows, and its name for --sort: "plan", "access.applied" */
        char *(*cell)(const json_t *row); /* or computes the cell from the row; the caller frees */
        bool wide;                        /* only with -o wide */
};

struct listing {
        const char *items;            /* the answer's member that contains the rows */
        const char *none;             /* printed on standard error if there are no rows */
        const char *names[3];         /* the members that identify a row to other commands, best first */
        const char *id;               /* the member that is unique, for --watch */
        const struct column *columns; /* ends with a NULL heading; the first one is shortened last */
        bool (*told)(
                const json_t *answer); /* may show it to people in its own way; false: shown as a table. NULL: none */
};

/* --limit, --sort and --watch of a list. */
struct listing_wish {
        int64_t limit;    /* 0: as many as the gateway returns */
        int64_t watch_ms; /* 0: once */
        const char *sort; /* NULL: in the gateway's order */
};

#define LISTING_OPTIONS "[--sort FIELD] [--limit N] [--watch[=TIME]]"

/* Removes the options from argv. Complains and returns EXIT_USAGE for an invalid value. */
int listing_options(int *argc, char **argv, struct listing_wish *ret);
/* Fetches the answer (which the caller of fetch releases), sorts its rows by --sort unless sorted says that the gateway
 * has done so, and shows it; with --watch repeatedly, until a signal arrives or nobody reads any more. Returns an exit
 * code. */
int listing_run(const struct listing *listing, const struct listing_wish *wish, bool sorted,
                int (*fetch)(void *context, json_t **ret), void *context);

/* Prints the answer (borrowed) on standard output. On a terminal a table is shortened until it fits, and loses its last
 * columns if that is not enough; -o wide, and output that is not a terminal, shows everything. */
void listing_show(const struct listing *listing, const json_t *answer);
/* The same, but as a table even if the listing has its own way of showing it. */
void listing_show_table(const struct listing *listing, const json_t *answer);
/* More rows of a list shown earlier: no heading, and columns no narrower than before. */
void listing_show_more(const struct listing *listing, const json_t *answer);
/* "access.applied" of a row; borrowed, NULL if it has none. */
const json_t *listing_member(const json_t *row, const char *path);
/* Prints one object for -o json, yaml, name or wide. False if the command is to show it to people in its own way. */
bool listing_show_one(const struct listing *listing, const json_t *thing);
/* Cells that many lists have. */
char *listing_time(const json_t *row, const char *member);
