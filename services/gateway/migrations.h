/* Commands to runs of migrations. */
#pragma once

#include "services/gateway/gateway.h"

/* Sends a command, whose data is the request's body, to this run, whatever the path calls it. Answers the request, now
 * or later; with 404 if run is no id. */
void migration_command_send(struct gateway *gateway, struct http_request *request, const char *caller,
                            const char *command, const char *run);
