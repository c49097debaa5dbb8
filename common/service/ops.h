/* The operations port: liveness, readiness, metrics. */
#pragma once

#include "common/net/http_server.h"
#include "common/service/service.h"

int ops_server_new(struct service *service, struct http_server **ret, struct err *err);
