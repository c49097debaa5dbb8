/* A list of the gateway's, fetched page by page. */
#pragma once

#include "common/base/json.h"

#define PAGES_ALL INT64_MAX

struct pages {
        const char *path;  /* with its query, without limit and cursor */
        const char *items; /* the answer's member that has the rows */
        int64_t limit;     /* so many rows; 0: one page, as long as the gateway makes it */
};

/* {ITEMS: [...], "next_cursor": ...} of a struct pages; for listing_run. Complains where it does not work. The caller
 * releases *ret, which is set only on EXIT_GOOD. */
int pages_fetch(void *pages, json_t **ret);
