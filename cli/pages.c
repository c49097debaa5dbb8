/* A list from the gateway, fetched page by page: see pages.h. */
#include "cli/pages.h"

#include "cli/api.h"
#include "common/base/buf.h"
#include "common/base/memory.h"

#include <string.h>

#define PAGE_LIMIT 500

static int pages_fetch_one(const struct pages *pages, int64_t limit, const char *cursor, json_t **ret)
{
        auto_free char *count = limit > 0 ? mem_printf("%d", (int)MIN(limit, PAGE_LIMIT)) : NULL;
        auto_buf path = { 0 };

        buf_add_text(&path, pages->path);
        api_add_query(&path, "limit", count);
        api_add_query(&path, "cursor", cursor);
        return api_get(path.data, ret);
}

int pages_fetch(void *context, json_t **ret)
{
        const struct pages *pages = context;
        auto_free char *cursor = NULL;
        auto_json *list = json_array();
        int64_t left = pages->limit;

        do {
                auto_json *page = NULL;
                int status = pages_fetch_one(pages, left, cursor, &page);
                const json_t *rows;

                if (status != EXIT_GOOD)
                        return status;
                rows = json_object_get(page, pages->items);
                json_array_extend(list, (json_t *)rows);
                left -= (int64_t)json_array_size(rows);
                free(cursor);
                cursor = mem_copy_text(json_text(page, "next_cursor"));
        } while (left > 0 && cursor != NULL && !cli_interrupted);
        *ret = json_pack("{s:O, s:s?}", pages->items, list, "next_cursor", cursor);
        return EXIT_GOOD;
}
