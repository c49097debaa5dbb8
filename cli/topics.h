/* Our topics: made by `tenantry init`, checked by `tenantry doctor`. */
#pragma once

#include <stdbool.h>

/* Creates what is missing on KAFKA_BROKERS; leaves what is there as it is. Returns an exit code. */
int topics_create(int partitions, int replication);
/* Calls visit for each topic we need; present says whether it is there. Returns an exit code. */
int topics_check(void (*visit)(const char *topic, bool present));
