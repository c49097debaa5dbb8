/* The postgres driver's take_inventory: see driver.h. */
#pragma once

#include "services/provisioner/driver.h"

void postgres_take_inventory(struct provisioner *provisioner,
                             void (*shown)(void *context, const char *server, json_t *list, const struct err *err),
                             void *context);
