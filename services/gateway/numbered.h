/* What has a number in the path, and can be put away by it: dead letters, alerts. */
#pragma once

#include "services/gateway/reading.h"

/* Whether the path's {id} is a number. False: the request is answered 404. */
bool numbered_is_asked_for(struct http_request *request);
/* Answers with what the catalog made of it, the row's column outcome: 200 where it is done, else why not. */
void numbered_answer(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows);
