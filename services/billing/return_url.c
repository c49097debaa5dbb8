/* Where Stripe's pages lead back to: see return_url.h. */
#include "services/billing/return_url.h"

#include "common/base/memory.h"
#include "common/contracts/product_url.h"

#include <string.h>

char *return_url(const struct billing_config *config, const char *slug, const char *parameter)
{
        auto_free char *back = mem_printf("%s/billing/back/{slug}", config->links.public_url);
        const char *pattern = config->return_url ?: back;
        auto_free char *url = slug ? product_url_of(pattern, slug) : mem_copy_text(pattern);

        return mem_printf("%s%s%s", url, parameter == NULL ? "" : strchr(pattern, '?') ? "&" : "?", parameter ?: "");
}
