/* Outcomes on their way to the catalog: sent in batches, and again until it has taken them. Taking one twice changes
 * nothing there. */
#pragma once

#include "common/base/json.h"
#include "common/service/service.h"

struct results;

/* sql: takes a JSON list as $1. taken(context) is called each time that the catalog has taken some. */
struct results *results_new(struct service *service, const char *sql, void (*taken)(void *context), void *context);
/* NULL is fine. */
void results_free(struct results *results);
/* result: taken. It is sent a moment later. */
void results_add(struct results *results, json_t *result);
/* Those that wait, if the catalog is up: for a timer. */
void results_send(struct results *results);
bool results_is_empty(const struct results *results);
