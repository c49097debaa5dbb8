/* A file of plans: it is taken whole, with each price and plan to be found again, or refused with a place. */
#include "tests/fuzz/fuzz.h"

#include "common/contracts/plans.h"

static void check_plans(const struct plans *plans)
{
        json_t *shown = plans_json(plans);

        MUST(plans->count > 0 && plans->trial != NULL && strlen(plans->hash) == 64);
        MUST(json_array_size(json_object_get(shown, "plans")) == plans->count);
        for (size_t i = 0; i < plans->count; i++) {
                MUST(plans_find(plans, plans->items[i].id) == &plans->items[i]);
                MUST((plans->items[i].price_count == 0) == plans->items[i].custom);
                for (size_t j = 0; j < plans->items[i].price_count; j++)
                        MUST(plans_find_by_price(plans, plans->items[i].prices[j].lookup_key, NULL) ==
                             &plans->items[i]);
        }
        json_decref(shown);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
        struct plans *plans = NULL;
        struct err err;

        if (plans_parse((const char *)bytes, length, &plans, &err) == 0)
                check_plans(plans);
        else
                MUST(plans == NULL && err.class == ERR_INPUT && err.message[0] != '\0');
        plans_free(plans);
        return 0;
}
