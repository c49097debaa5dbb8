/* Where a tenant uses the product: see product_url.h. */
#include "common/contracts/product_url.h"

#include "common/base/memory.h"

#include <string.h>

char *product_url_of(const char *product_url, const char *slug)
{
        const char *hole = strstr(product_url, "{slug}");

        if (hole == NULL)
                return mem_copy_text(product_url);
        return mem_printf("%.*s%s%s", (int)(hole - product_url), product_url, slug, hole + strlen("{slug}"));
}
