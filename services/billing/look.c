/* What there is at Stripe before anything is changed: the steps with which most requests begin. */
#include "common/base/memory.h"
#include "common/contracts/stripe_event.h"
#include "services/billing/kinds.h"

#include <string.h>

static const char SQL_OTHERS[] = "select object_id from object where kind = 'subscription' "
                                 "and object_id in (select jsonb_array_elements_text($2::jsonb)) "
                                 "and tenant_id is distinct from $1::uuid";

static enum step_result look_at_next_customer(struct saga *saga);

static bool look_is_live(struct saga *saga, const json_t *subscription)
{
        if (json_text_is(subscription, "status", "incomplete"))
                return json_flag(saga_data(saga), "with_incomplete");
        return !json_text_is(subscription, "status", "canceled") &&
               !json_text_is(subscription, "status", "incomplete_expired");
}

static int look_rank(const json_t *one)
{
        static const char *const ORDER[] = { "active", "trialing", "past_due", "unpaid", "paused" };

        for (int i = 0; i < (int)ARRAY_SIZE(ORDER); i++)
                if (json_text_is(one, "status", ORDER[i]))
                        return i;
        return (int)ARRAY_SIZE(ORDER);
}

/* In the order of the catalog's live_subscription. */
static bool look_is_before(const json_t *a, const json_t *b)
{
        int64_t start_a = json_number(a, "start", 0), start_b = json_number(b, "start", 0);

        if (look_rank(a) != look_rank(b))
                return look_rank(a) < look_rank(b);
        if (start_a != start_b)
                return start_a < start_b;
        return strcmp(json_text(a, "id") ?: "", json_text(b, "id") ?: "") < 0;
}

static json_t *look_summary(const json_t *object)
{
        auto_json *read = NULL;
        const json_t *facts, *price;
        json_t *made = json_object();

        if (stripe_object_read(object, &read, NULL) < 0)
                return made;
        facts = json_object_get(read, "facts");
        price = json_array_get(json_object_get(facts, "prices"), 0);
        json_set_text(made, "id", json_text(read, "id"));
        json_set_text(made, "customer", json_text(read, "customer"));
        json_set_text(made, "status", json_text(facts, "status"));
        json_set_text(made, "schedule", json_text(facts, "schedule"));
        json_set_text(made, "latest_invoice", json_text(facts, "latest_invoice"));
        json_set_text(made, "item", json_text(price, "item"));
        json_set_text(made, "price", json_text(price, "price"));
        json_set_text(made, "lookup_key", json_text(price, "lookup_key"));
        json_set_text(made, "interval", json_text(price, "interval"));
        json_object_set_new(made, "amount", json_integer(json_number(price, "amount", 0)));
        json_object_set_new(made, "start", json_integer(json_number(facts, "start_date", 0)));
        json_object_set_new(made, "period_start", json_integer(json_number(facts, "period_start", 0)));
        json_object_set_new(made, "period_end", json_integer(json_number(facts, "period_end", 0)));
        json_object_set_new(made, "cancel_at", json_integer(json_number(facts, "cancel_at", 0)));
        json_object_set_new(made, "is_pending",
                            json_boolean(json_is_object(json_object_get(object, "pending_update"))));
        json_object_set_new(made, "at_period_end", json_boolean(json_flag(object, "cancel_at_period_end")));
        return made;
}

static void look_add(struct saga *saga, const json_t *object)
{
        json_t *live = json_object_get(saga_data(saga), "live"), *made = look_summary(object);
        size_t at = 0;

        while (at < json_array_size(live) && look_is_before(json_array_get(live, at), made))
                at++;
        json_array_insert_new(live, at, made);
}

static enum step_result look_listed(struct saga *saga, const json_t *reply, const struct err *err)
{
        const json_t *each, *list = json_object_get(reply, "data");
        size_t i;

        if (err != NULL && err->class != ERR_GONE)
                return saga_fail(saga, err);
        json_array_foreach (list, i, each)
                if (look_is_live(saga, each))
                        look_add(saga, each);
        json_array_remove(work_of(saga)->left, 0);
        return stripe_keep(saga, list ? json_incref((json_t *)(uintptr_t)list) : json_array(), look_at_next_customer);
}

static enum step_result look_others_known(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        json_t *live = json_object_get(saga_data(saga), "live");

        if (err != NULL)
                return saga_retry(saga, err);
        for (int row = 0; row < pg_rows_count(rows); row++)
                for (size_t i = json_array_size(live); i > 0; i--)
                        if (json_text_is(json_array_get(live, i - 1), "id", pg_text(rows, row, "object_id")))
                                json_array_remove(live, i - 1);
        if (json_flag(saga_data(saga), "must_live") && look_live(saga) == NULL)
                return work_refuse(saga, "not_subscribed", NULL, NULL,
                                   "the tenant has no subscription: begin a checkout");
        return STEP_DONE;
}

/* Somebody may have given one customer the subscriptions of two tenants: what is another's is not looked at, or its
 * end would be the other's. The catalog says whose each is: all of them are stored by now. */
static enum step_result look_leave_others(struct saga *saga)
{
        auto_json *ids = json_array();
        auto_free char *text = NULL;
        const json_t *each;
        size_t i;

        json_array_foreach (json_object_get(saga_data(saga), "live"), i, each)
                json_array_append(ids, json_object_get(each, "id"));
        text = json_print(ids);
        return saga_query(saga, SQL_OTHERS, PARAMS(saga_tenant(saga), text), look_others_known);
}

static enum step_result look_at_next_customer(struct saga *saga)
{
        const char *id = json_string_value(json_array_get(work_of(saga)->left, 0));

        if (id == NULL)
                return look_leave_others(saga);
        return stripe_look(saga, mem_copy_text("/v1/subscriptions"),
                           json_pack("{s:s, s:s, s:i}", "customer", id, "status", "all", "limit", 100), look_listed);
}

enum step_result look_at_subscriptions(struct saga *saga)
{
        struct work *work = work_of(saga);
        const char *made = json_text(saga_data(saga), "customer");
        bool is_known = made == NULL;
        const json_t *each;
        size_t i;

        json_decref(work->left);
        work->left = json_copy(json_object_get(work->facts, "customers"));
        json_array_foreach (work->left, i, each)
                is_known = is_known || strcmp(json_string_value(each), made) == 0;
        if (!is_known) /* made just now */
                json_array_append_new(work->left, json_string(made));
        json_object_set_new(saga_data(saga), "live", json_array());
        return look_at_next_customer(saga);
}

enum step_result look_for_subscription(struct saga *saga)
{
        json_object_set_new(saga_data(saga), "must_live", json_true());
        return look_at_subscriptions(saga);
}

const json_t *look_live(struct saga *saga)
{
        return json_array_get(json_object_get(saga_data(saga), "live"), 0);
}

bool look_is_ours(struct saga *saga, const json_t *session)
{
        const char *tenant = json_text(session, "client_reference_id");

        return tenant == NULL || strcmp(tenant, saga_tenant(saga)) == 0;
}

static enum step_result look_price_found(struct saga *saga, const json_t *reply, const struct err *err)
{
        const json_t *price = json_array_get(json_object_get(reply, "data"), 0);

        if (err != NULL)
                return saga_fail(saga, err);
        if (price == NULL)
                return work_refuse(saga, "price_missing", "plan", NULL,
                                   "Stripe does not have the plan's price: run tenantry stripe setup");
        json_object_set_new(saga_data(saga), "price",
                            json_pack("{s:s?, s:I, s:s?}", "id", json_text(price, "id"), "amount",
                                      (json_int_t)json_number(price, "unit_amount", 0), "interval",
                                      json_text(json_object_get(price, "recurring"), "interval")));
        return stripe_keep_one(saga, price);
}

enum step_result look_up_price(struct saga *saga)
{
        return stripe_look(saga, mem_copy_text("/v1/prices"),
                           json_pack("{s:[s?], s:b, s:i}", "lookup_keys", json_text(saga_data(saga), "lookup_key"),
                                     "active", 1, "limit", 1),
                           look_price_found);
}

static enum step_result look_released(struct saga *saga, const json_t *reply, const struct err *err)
{
        if (err != NULL)
                return work_again(saga, err);
        return stripe_keep_one(saga, reply);
}

enum step_result look_release_schedule(struct saga *saga)
{
        const char *schedule = json_text(look_live(saga), "schedule");
        auto_free char *name = NULL;

        if (schedule == NULL)
                return STEP_DONE;
        name = mem_printf("release:%s", schedule);
        return stripe_change(saga, name, "POST", mem_printf("/v1/subscription_schedules/%s/release", schedule), NULL,
                             look_released);
}
