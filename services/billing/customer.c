/* The tenant's customer at Stripe: one, whoever else looks at the same time. */
#include "common/base/memory.h"
#include "services/billing/kinds.h"

#include <string.h>

static enum step_result customer_try_next(struct saga *saga);

static void customer_set(struct saga *saga, const char *id)
{
        json_set_text(saga_data(saga), "customer", id);
}

static enum step_result customer_made(struct saga *saga, const json_t *reply, const struct err *err)
{
        if (err != NULL)
                return saga_fail(saga, err);
        customer_set(saga, json_text(reply, "id"));
        return stripe_keep_one(saga, reply);
}

static enum step_result customer_make(struct saga *saga)
{
        const json_t *facts = work_of(saga)->facts;
        json_t *params = json_pack("{s:s?, s:s?, s:{s:s}}", "email", json_text(facts, "email"), "name",
                                   json_text(facts, "company"), "metadata", "tenant_id", saga_tenant(saga));

        return stripe_change(saga, "customer", "POST", mem_copy_text("/v1/customers"), params, customer_made);
}

/* One that was made by a saga whose answer was lost with its key is found by what it says of itself. */
static enum step_result customer_listed(struct saga *saga, const json_t *reply, const struct err *err)
{
        const json_t *each;
        size_t i;

        if (err != NULL)
                return saga_fail(saga, err);
        json_array_foreach (json_object_get(reply, "data"), i, each) {
                const char *tenant = json_text(json_object_get(each, "metadata"), "tenant_id");

                if (tenant == NULL || strcmp(tenant, saga_tenant(saga)) != 0)
                        continue;
                customer_set(saga, json_text(each, "id"));
                return stripe_keep_one(saga, each);
        }
        return customer_make(saga);
}

static enum step_result customer_none(struct saga *saga)
{
        struct work *work = work_of(saga);

        if (json_flag(saga_data(saga), "known_only"))
                return work_refuse(saga, "no_customer", NULL, NULL, "the tenant is not a customer at Stripe yet");
        return stripe_look(saga, mem_copy_text("/v1/customers"),
                           json_pack("{s:s?, s:i}", "email", json_text(work->facts, "email"), "limit", 100),
                           customer_listed);
}

/* It was deleted there: not one of the tenant's any more. */
static enum step_result customer_gone(struct saga *saga)
{
        json_t *known = json_object_get(work_of(saga)->facts, "customers");
        json_t *gone =
                json_pack("[{s:s, s:O, s:b}]", "object", "customer", "id", json_array_get(known, 0), "deleted", 1);

        json_array_remove(known, 0);
        return stripe_keep(saga, gone, customer_try_next);
}

static enum step_result customer_shown(struct saga *saga, const json_t *reply, const struct err *err)
{
        if (err != NULL && err->class != ERR_GONE)
                return saga_fail(saga, err);
        if (err != NULL || json_flag(reply, "deleted"))
                return customer_gone(saga);
        customer_set(saga, json_text(reply, "id"));
        return STEP_DONE;
}

static enum step_result customer_try_next(struct saga *saga)
{
        const char *id = json_string_value(json_array_get(json_object_get(work_of(saga)->facts, "customers"), 0));

        if (id == NULL)
                return customer_none(saga);
        return stripe_look(saga, mem_printf("/v1/customers/%s", id), NULL, customer_shown);
}

enum step_result customer_ensure(struct saga *saga)
{
        return customer_try_next(saga);
}

enum step_result customer_find(struct saga *saga)
{
        json_object_set_new(saga_data(saga), "known_only", json_true());
        return customer_try_next(saga);
}
