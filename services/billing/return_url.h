/* Where Stripe's pages lead back to. */
#pragma once

#include "services/billing/config.h"

/* The address that is configured, with the tenant's slug in place of "{slug}", and a parameter (NULL = none) added. The
 * caller frees. */
char *return_url(const struct billing_config *config, const char *slug, const char *parameter);
