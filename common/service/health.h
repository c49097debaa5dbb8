/* `--health`: a probe for where there is no curl. */
#pragma once

#include "common/service/service.h"

/* Queries the service's own /readyz, at the address and port given by SERVICE_OPTIONS, and prints its answer on one
 * line. Fills *config from those options. Returns the exit code: 0 ready, 1 not ready, 2 the configuration is wrong. */
int health_ask(struct service_config *config);
