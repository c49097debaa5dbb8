/* Our own signed links: see signed_link.h. */
#include "common/contracts/signed_link.h"

#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define TEXT_LIMIT 160

/* Keys are derived from `key`: a change of it, or of what is signed, makes every link in people's mail boxes invalid,
 * and links of one release invalid for another. */
static const struct {
        const char *key, *invalid, *expired;
} PURPOSES[] = {
        [LINK_INVITATION] = { "tenantry invitation link", "this is not an invitation link",
                              "this invitation has expired: ask for a new one" },
        [LINK_BILLING] = { "tenantry billing link", "this is not a link to a tenant's billing",
                           "this link has expired: ask for a new one" },
};

char *signed_link_make(const struct keyring *ring, enum link_purpose purpose, const char *subject, int number,
                       int64_t expires)
{
        auto_free char *signed_part = mem_printf("%s.%d.%lld", subject, number, (long long)expires);
        auto_free char *signature = keyring_sign(ring, PURPOSES[purpose].key, signed_part);

        return mem_printf("%s.%s", signed_part, signature);
}

int signed_link_check(const struct keyring *ring, enum link_purpose purpose, const char *text, int64_t now_ms,
                      struct signed_link *ret, struct err *err)
{
        auto_free char *copy = NULL;
        char *dot;
        long long expires;
        struct signed_link link;

        if (strlen(text) > TEXT_LIMIT || (copy = mem_copy_text(text)) == NULL || (dot = strrchr(copy, '.')) == NULL)
                return err_set(err, ERR_INPUT, "link_invalid", "%s", PURPOSES[purpose].invalid);
        *dot = '\0';
        if (!keyring_verify(ring, PURPOSES[purpose].key, copy, dot + 1) ||
            sscanf(copy, "%36[0-9a-f-].%d.%lld", link.subject.text, &link.number, &expires) != 3 ||
            !id_is_valid(link.subject.text))
                return err_set(err, ERR_INPUT, "link_invalid", "%s", PURPOSES[purpose].invalid);
        if (expires < (now_ms + 999) / 1000)
                return err_set(err, ERR_GONE, "link_expired", "%s", PURPOSES[purpose].expired);
        link.expires = expires;
        *ret = link;
        return 0;
}
