/* Where Stripe's pages lead back to. */
#pragma once

/* The pattern with the tenant's slug in place of "{slug}", and a parameter (NULL = none) added. The caller frees. */
char *return_url(const char *pattern, const char *slug, const char *parameter);
