/* Shared by dead letters, alerts and events of Stripe's, which have a number in their path. */
#pragma once

#include "services/gateway/reading.h"

/* Whether the path's {id} is a number. If not, answers the request with 404. */
bool numbered_is_asked_for(struct http_request *request);
/* Answers with the column outcome of the only row: 200 if it is done, otherwise why not. */
void numbered_answer(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows);
