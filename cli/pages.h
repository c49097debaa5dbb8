/* A list from the gateway, fetched page by page. */
#pragma once

#include "common/base/json.h"

#define PAGES_ALL INT64_MAX

struct pages {
        const char *path;  /* including the query, without limit and cursor */
        const char *items; /* the answer's member that contains the rows */
        int64_t limit;     /* the number of rows; 0: one page of the gateway's default length */
};

/* {ITEMS: [...], "next_cursor": ...} of a struct pages; for listing_run. Complains if it fails. The caller releases
 * *ret, which is set only on EXIT_GOOD. */
int pages_fetch(void *pages, json_t **ret);
