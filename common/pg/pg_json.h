/* Columns that contain JSON. */
#pragma once

#include "common/base/json.h"
#include "common/pg/pg.h"

/* As a value, which the caller releases; null if the column is null. */
json_t *pg_json(const struct pg_rows *rows, int row, const char *column);
