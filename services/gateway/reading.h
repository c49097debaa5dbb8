/* One query on the catalog, whose rows answer a request. */
#pragma once

#include "common/pg/pg_json.h"
#include "services/gateway/gateway.h"

typedef void (*rows_answer_fn)(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows);

/* Runs sql and passes its rows to answer. Without the catalog the request is answered with 503. */
void read_catalog(struct gateway *gateway, struct http_request *request, const char *sql, size_t count,
                  const char *const *params, rows_answer_fn answer);
/* The answer where the catalog did not: 503, and when to ask again. */
void read_answer_away(struct http_request *request);
