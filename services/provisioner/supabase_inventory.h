/* Lists our projects in the organization, page by page; and deletes quarantined ones. */
#pragma once

#include "services/provisioner/provisioner.h"

void supabase_take_inventory(struct provisioner *provisioner,
                             void (*shown)(void *context, const char *server, json_t *list, const struct err *err),
                             void *context);
