/* From the catalog to Kafka: history to tenant.events.v1, snapshots to their topics (tenant.status.v1, and what
 * services store with catalog.put_snapshot), dead letters to theirs. Every service process runs one; a lease decides
 * which one publishes, the others stand by. */
#pragma once

#include "common/service/service.h"

struct publisher;

struct publisher *publisher_new(struct service *service);
/* Something was written: check soon. */
void publisher_wake(struct publisher *publisher);
/* Starts no new round. */
void publisher_stop(struct publisher *publisher);
bool publisher_is_idle(const struct publisher *publisher);
void publisher_free(struct publisher *publisher);
