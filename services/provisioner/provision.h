/* Parts of a provisioning that other activities share. */
#pragma once

#include "services/provisioner/activity.h"

/* On the tenant's connection: one row whose column "used" tells whether the database was handed over. */
enum step_result provision_ask_for_use(struct saga *saga, saga_rows_then then);
