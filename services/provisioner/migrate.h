/* The step that brings a tenant's database to the product's schema. */
#pragma once

#include "common/durable/saga.h"

/* Applies the registered files that a tenant without any gets (registry.h), or, while they are not registered, those of
 * TENANT_MIGRATIONS; then sets the rights of the product's login, and notes which versions the database has. */
enum step_result migrate_database(struct saga *saga);
