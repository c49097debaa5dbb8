/* A page of a list: how long it is, where it begins, and where the next one does. */
#pragma once

#include "common/base/id.h"
#include "services/gateway/reading.h"

#define PAGE_LIMIT 500

/* Rows are in the order of (place, id): where the page begins. */
struct page {
        int64_t limit;
        char limit_text[8];
        char *place, *id; /* NULL: with the first row */
};

/* Reads limit and cursor of the query. is_place says whether a cursor's place is one of this order. False: the request
 * is answered 400. The caller releases the page. */
bool page_read(struct http_request *request, int64_t otherwise, bool (*is_place)(const char *text), struct page *ret);
void page_release(struct page *page);
/* "2026-01-31 12:00:00.000000Z", as the columns `place` have times. */
bool page_is_time(const char *text);
/* Whole numbers. */
bool page_is_number(const char *text);
/* {"NAME": [the column item of each row], "next_cursor": that of the last row's place and id, where the page is full,
 * else null}. */
void page_answer(struct http_request *request, const char *name, const struct pg_rows *rows, int64_t otherwise);
/* The parameter id of the query, the beginning of one, as the first and last id it may be; empty where there is none.
 * False: the request is answered 400. */
bool page_read_span(struct http_request *request, struct id *ret_first, struct id *ret_last);
/* The text, or NULL where it is empty. */
const char *page_text_or_null(const char *text);
