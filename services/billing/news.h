/* Tells the catalog with which plans and in which mode billing works, once; then takes what has become of tenants: who
 * signed up, who is ready, who was archived. Others note that there; nobody calls billing. */
#pragma once

#include "services/billing/billing.h"

struct news *news_new(struct billing *billing);
/* Whether the catalog knows the plans. */
bool news_is_configured(const struct news *news);
/* NULL is fine. */
void news_free(struct news *news);
