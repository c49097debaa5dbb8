/* Commands to runs of migrations. */
#pragma once

#include "services/gateway/gateway.h"

/* Sends the command of the request's route to this run, whatever the path calls it. Answers the request, now or
 * later. */
void migration_command_send(struct gateway *gateway, struct http_request *request, const char *caller, const char *run);
