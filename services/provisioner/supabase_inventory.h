/* What the organization has of ours, page by page; and the end of quarantined projects. */
#pragma once

#include "services/provisioner/provisioner.h"

void supabase_take_inventory(struct provisioner *provisioner,
                             void (*shown)(void *context, const char *server, json_t *list, const struct err *err),
                             void *context);
