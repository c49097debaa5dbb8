/* Our own signed invitation links: see invite_link.h. */
#include "common/contracts/invite_link.h"

#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define PURPOSE    "tenantry invitation link"
#define TEXT_LIMIT 160

char *invite_link_make(const struct keyring *ring, const char *tenant_id, int number, int64_t now_ms)
{
        auto_free char *signed_part =
                mem_printf("%s.%d.%lld", tenant_id, number, (long long)(now_ms + INVITE_LINK_LIFE_MS) / 1000);
        auto_free char *signature = keyring_sign(ring, PURPOSE, signed_part);

        return mem_printf("%s.%s", signed_part, signature);
}

int invite_link_check(const struct keyring *ring, const char *text, int64_t now_ms, struct invite_link *ret,
                      struct err *err)
{
        auto_free char *copy = NULL;
        char *dot;
        long long expires;
        struct invite_link link;

        if (strlen(text) > TEXT_LIMIT || (copy = mem_copy_text(text)) == NULL || (dot = strrchr(copy, '.')) == NULL)
                return err_set(err, ERR_INPUT, "link_invalid", "this is not an invitation link");
        *dot = '\0';
        if (!keyring_verify(ring, PURPOSE, copy, dot + 1) ||
            sscanf(copy, "%36[0-9a-f-].%d.%lld", link.tenant.text, &link.number, &expires) != 3 ||
            !id_is_valid(link.tenant.text))
                return err_set(err, ERR_INPUT, "link_invalid", "this is not an invitation link");
        if (expires * 1000 < now_ms)
                return err_set(err, ERR_GONE, "link_expired", "this invitation has expired: ask for a new one");
        *ret = link;
        return 0;
}

char *invite_link_product(const char *product_url, const char *slug)
{
        const char *hole = strstr(product_url, "{slug}");

        if (hole == NULL)
                return mem_copy_text(product_url);
        return mem_printf("%.*s%s%s", (int)(hole - product_url), product_url, slug, hole + strlen("{slug}"));
}
