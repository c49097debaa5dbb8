/* A page of a list: see paging.h. */
#include "services/gateway/paging.h"

#include "common/base/crypto.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CURSOR_LIMIT 1000
#define NO_ID        "00000000-0000-0000-0000-000000000000"

bool page_is_time(const char *text)
{
        return strlen(text) == 27 && strspn(text, "0123456789-:. ") == 26 && text[26] == 'Z' && text[13] == ':';
}

bool page_is_number(const char *text)
{
        return *text != '\0' && strlen(text) < 19 && strspn(text, "0123456789") == strlen(text);
}

/* "PLACE ID" in base64url. Cursors of the first versions have times without their Z. */
static bool page_parse_cursor(const char *cursor, bool (*is_place)(const char *text), struct page *page)
{
        auto_free char *plain = NULL;
        char *space;
        int length;

        if (strlen(cursor) > CURSOR_LIMIT)
                return false;
        plain = mem_alloc(strlen(cursor) + 1, 1);
        length = crypto_base64_decode(cursor, (unsigned char *)plain);
        if (length <= 1 + ID_LENGTH || strlen(plain) != (size_t)length)
                return false;
        space = plain + length - ID_LENGTH - 1;
        if (*space != ' ' || !id_is_valid(space + 1))
                return false;
        *space = '\0';
        page->place = strlen(plain) == 26 && plain[13] == ':' ? mem_printf("%sZ", plain) : mem_copy_text(plain);
        page->id = mem_copy_text(space + 1);
        return is_place(page->place);
}

bool page_read(struct http_request *request, int64_t otherwise, bool (*is_place)(const char *text), struct page *ret)
{
        const char *cursor = http_query(request, "cursor"), *limit = http_query(request, "limit");
        char *end = "";

        *ret = (struct page){ .limit = limit ? strtol(limit, &end, 10) : otherwise };
        if (ret->limit < 1 || ret->limit > PAGE_LIMIT || *end != '\0') {
                http_answer_problem(request, 400, "invalid_field", "limit", "limit must be 1 to 500");
                return false;
        }
        snprintf(ret->limit_text, sizeof(ret->limit_text), "%d", (int)ret->limit);
        if (cursor == NULL || page_parse_cursor(cursor, is_place, ret))
                return true;
        page_release(ret);
        http_answer_problem(request, 400, "invalid_field", "cursor", "this cursor is not valid for this list");
        return false;
}

void page_release(struct page *page)
{
        free(TAKE_PTR(page->place));
        free(TAKE_PTR(page->id));
}

json_t *page_cursor(const char *place, const char *id)
{
        auto_free char *at = mem_printf("%s %s", place, id ? id : NO_ID);
        auto_free char *cursor = crypto_base64url(at, strlen(at));

        return json_string(cursor);
}

bool page_is_full(struct http_request *request, int64_t count, int64_t otherwise)
{
        const char *limit = http_query(request, "limit");

        return count > 0 && count == (limit ? strtol(limit, NULL, 10) : otherwise);
}

void page_answer(struct http_request *request, const char *name, const struct pg_rows *rows, int64_t otherwise)
{
        int count = pg_rows_count(rows), last = count - 1;
        bool full = page_is_full(request, count, otherwise);
        json_t *list = json_array();

        for (int row = 0; row < count; row++)
                json_array_append_new(list, pg_json(rows, row, "item"));
        http_answer_json(
                request, 200,
                json_pack("{s:o, s:o}", name, list, "next_cursor",
                          full ? page_cursor(pg_text(rows, last, "place"), pg_text(rows, last, "id")) : json_null()));
}

bool page_read_span(struct http_request *request, struct id *ret_first, struct id *ret_last)
{
        const char *beginning = http_query(request, "id");

        *ret_first = *ret_last = (struct id){ .text = "" };
        if (beginning == NULL || id_span(beginning, ret_first, ret_last))
                return true;
        http_answer_problem(request, 400, "invalid_field", "id", "id must be the beginning of an id");
        return false;
}

const char *page_text_or_null(const char *text)
{
        return *text ? text : NULL;
}
