/* What other activities do as a provisioning does it. */
#pragma once

#include "services/provisioner/activity.h"

/* A step: the product's migrations on the tenant's database, and the app login's rights anew. */
enum step_result provision_migrate(struct saga *saga);
/* On the tenant's connection: one row whose column "used" tells whether the database was handed over. */
enum step_result provision_ask_for_use(struct saga *saga, saga_rows_then then);
