/* Where a tenant uses the product. */
#pragma once

/* PRODUCT_URL with the tenant's slug in place of "{slug}", if that occurs. The caller frees. */
char *product_url_of(const char *product_url, const char *slug);
