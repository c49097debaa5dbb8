/* Where Stripe's pages lead back to: see return_url.h. */
#include "services/billing/return_url.h"

#include "common/base/memory.h"

#include <string.h>

char *return_url(const char *pattern, const char *slug, const char *parameter)
{
        static const char MARK[] = "{slug}";
        const char *mark = strstr(pattern, MARK), *rest = mark && slug ? mark + strlen(MARK) : pattern;
        const char *question = strchr(pattern, '?') ? "&" : "?";
        int before = mark && slug ? (int)(mark - pattern) : 0;

        return mem_printf("%.*s%s%s%s%s", before, pattern, before > 0 ? slug : "", rest, parameter ? question : "",
                          parameter ?: "");
}
