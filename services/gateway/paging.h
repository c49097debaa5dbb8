/* A page of a list: how long it is, where it begins, and where the next one does. */
#pragma once

#include "common/base/id.h"
#include "services/gateway/reading.h"

#define PAGE_LIMIT 500

/* Where the page begins. Rows are ordered by (place, id); id is empty if places are unique. */
struct page {
        int64_t limit;
        char limit_text[8];
        char *place, *id; /* NULL: at the first row */
};

/* Reads limit and cursor from the query. is_place says whether a cursor's place is valid in this order. False: the
 * request has been answered with 400. The caller releases the page. */
bool page_read(struct http_request *request, int64_t otherwise, bool (*is_place)(const char *text), struct page *ret);
void page_release(struct page *page);
/* The cursor for the rows after this one; id may be NULL. */
json_t *page_cursor(const char *place, const char *id);
/* Whether as many rows came as were requested, so that there may be more. */
bool page_is_full(struct http_request *request, int64_t count, int64_t otherwise);
/* "2026-01-31 12:00:00.000000Z", the form of times in the columns `place`. */
bool page_is_time(const char *text);
/* Whole numbers. */
bool page_is_number(const char *text);
/* {"NAME": [the column item of each row], "next_cursor": from the last row's place and id if the page is full,
 * otherwise null}. */
void page_answer(struct http_request *request, const char *name, const struct pg_rows *rows, int64_t otherwise);
/* The query's parameter id, the beginning of an id, as the first and last id it can be; empty if there is none. False:
 * the request has been answered with 400. */
bool page_read_span(struct http_request *request, struct id *ret_first, struct id *ret_last);
/* The text, or NULL if it is empty. */
const char *page_text_or_null(const char *text);
