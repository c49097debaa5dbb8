/* Keys and tenants of the tests of key rings and of what is sealed with them. */
#pragma once

#include "tests/unit/check.h"

#include "common/base/keyring.h"

#define TENANT "01890a5d-ac96-774b-bcce-b302099a8057"
#define OTHER  "01890a5d-ac96-774b-bcce-b302099a8058"
#define KEY_1  "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define KEY_2  "k2:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8"

static inline struct keyring *ring_of(const char *text)
{
        struct keyring *ring = NULL;
        struct err err;

        if (keyring_parse("UNIT_KEYS", text, &ring, &err) < 0)
                fail_msg("%s", err.message);
        return ring;
}
