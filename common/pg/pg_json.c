/* Columns that contain JSON: see pg_json.h. */
#include "common/pg/pg_json.h"

#include <string.h>

json_t *pg_json(const struct pg_rows *rows, int row, const char *column)
{
        const char *text = pg_text(rows, row, column);
        json_t *value = NULL;

        if (text == NULL || json_parse(text, strlen(text), &value, NULL) < 0)
                return json_null();
        return value;
}
