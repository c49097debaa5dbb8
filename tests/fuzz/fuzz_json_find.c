/* What is found in one pass over the bytes is what is found in all values built from them. */
#include "tests/fuzz/fuzz.h"

#include "common/base/json_find.h"
#include "common/base/macros.h"
#include "common/contracts/stripe_envelope.h"

#include <string.h>

enum { PLACES = 5 };

static const struct json_wanted INNER[] = {
        { .name = "id", .place = 3 },
        { .name = "customer", .place = 4 },
        { 0 },
};
static const struct json_wanted OUTER[] = {
        { .name = "id", .place = 0 },
        { .name = "livemode", .place = 1 },
        { .name = "data", .members = INNER, .place = 2 },
        { 0 },
};

static void check_same(const struct json_found *a, const struct json_found *b)
{
        MUST(a->type == b->type);
        MUST(a->type != JSON_FOUND_TEXT || (a->length == b->length && memcmp(a->text, b->text, a->length) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
        struct json_found scanned[PLACES] = { 0 }, picked[PLACES] = { 0 };
        const char *text = (const char *)bytes;
        struct stripe_envelope envelope;
        auto_json *tree = NULL;
        struct err err;

        if (stripe_envelope_read(text, length, &envelope, &err) == 0)
                MUST(envelope.id[0] != '\0' && envelope.account[0] != '\0' && envelope.customer[0] != '\0');
        if (!json_scan(text, length, OUTER, scanned))
                return 0;
        tree = json_loadb(text, length, 0, NULL); /* names given twice in what is not wanted are for others to see */
        MUST(tree != NULL);
        json_pick(tree, OUTER, picked);
        for (size_t i = 0; i < PLACES; i++)
                check_same(&scanned[i], &picked[i]);
        return 0;
}
