/* Tenants as Supabase projects. */
#include "services/provisioner/driver.h"
const struct driver SUPABASE_DRIVER = { .name = "supabase" };
