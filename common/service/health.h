/* `--health`: a probe for where there is no curl. */
#pragma once

#include "common/service/service.h"

/* Asks the service's own /readyz, at the address and port that SERVICE_OPTIONS tell, and prints its answer in a line.
 * Fills *config by those options. Returns the exit code: 0 ready, 1 not, 2 the configuration is wrong.
 */
int health_ask(struct service_config *config);
