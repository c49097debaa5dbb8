/* The header of a webhook: nothing that a stranger writes is taken for Stripe's. */
#include "tests/fuzz/fuzz.h"

#include "common/base/memory.h"
#include "common/contracts/stripe_signature.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
        static struct stripe_secrets *secrets;
        auto_free char *header = mem_printf("%.*s", (int)length, (const char *)bytes);
        struct err err;

        if (secrets == NULL)
                MUST(stripe_secrets_parse("SECRETS", "whsec_nobody,whsec_knows", &secrets, &err) == 0);
        MUST(stripe_signature_check(secrets, header, bytes, length, 1760000000, 300, &err) < 0);
        MUST(err.code[0] != '\0' && strstr(err.message, "whsec") == NULL);
        return 0;
}
