/* Server-sent events of tenant status: the state as it is now from the catalog, then every change as Kafka brings it.
 */
#pragma once

#include "services/gateway/gateway.h"

struct streams;

struct streams *streams_new(struct gateway *gateway, struct err *err);
void streams_free(struct streams *streams);
