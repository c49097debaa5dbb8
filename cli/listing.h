/* Lists and things as every command shows them: a table that fits the terminal, or what -o says. */
#pragma once

#include "cli/cli.h"

struct column {
        const char *heading;
        const char *member;               /* what stands in it: "plan", "access.applied" */
        char *(*cell)(const json_t *row); /* or what makes it of the row; the caller frees */
        bool wide;                        /* only with -o wide */
};

struct listing {
        const char *items;            /* the answer's member that has the rows */
        const char *none;             /* said on standard error where there is no row */
        const char *names[3];         /* the members that name a row for other commands, the best first */
        const struct column *columns; /* ends with a NULL heading; the first one is the last to be cut */
};

/* The answer (borrowed) on standard output. On a terminal a table is cut until it fits, and loses its last columns
 * where that is not enough; -o wide, and a table that is no terminal's, has everything. */
void listing_show(const struct listing *listing, const json_t *answer);
/* What -o json, yaml, name or wide make of one thing. False where it is to be shown to people in the command's own
 * way. */
bool listing_show_one(const struct listing *listing, const json_t *thing);
/* Cells that many have. */
char *listing_time(const json_t *row, const char *member);
