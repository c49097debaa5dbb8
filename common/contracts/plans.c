/* The plans that are sold: see plans.h. Each check says where in the file it is, since whoever reads it has written the
 * file by hand. */
#include "common/contracts/plans.h"

#include "common/base/crypto.h"
#include "common/base/embed.h"
#include "common/base/file.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define FILE_BYTES   (256 * 1024)
#define PLANS_MOST   32
#define MODULES_MOST 100
#define LIMITS_MOST  16
#define ID_LENGTH    40
#define NAME_LENGTH  100
#define KEY_LENGTH   200                       /* Stripe's limit */
#define AMOUNT_MOST  INT64_C(99999999)         /* Stripe's limit */
#define LIMIT_MOST   INT64_C(9007199254740991) /* what JavaScript still counts exactly */
#define TRIAL_MOST   INT64_C(730)              /* days; Stripe's limit */

#define LETTERS "abcdefghijklmnopqrstuvwxyz"
#define DIGITS  "0123456789"

EMBED(plans_built_in, "templates/plans.json");

static const char *const INTERVALS[PLANS_INTERVALS] = { "month", "year" };

static int plans_refuse(struct err *err, const char *where, const char *why)
{
        return err_field(err, where, "%s: %s", *where ? where : "the file", why);
}

/* "plans[1]" and "limits" are "plans[1].limits". */
static char *plans_place(const char *where, const char *name)
{
        return mem_printf("%s%s%s", where, *where ? "." : "", name);
}

static int plans_refuse_member(struct err *err, const char *where, const char *name, const char *why)
{
        auto_free char *place = plans_place(where, name);

        return plans_refuse(err, place, why);
}

/* That value is an object with no other members than these; names ends with NULL. */
static int plans_check_object(const json_t *value, const char *where, const char *const *names, struct err *err)
{
        const char *name;
        json_t *member;

        if (!json_is_object(value))
                return plans_refuse(err, where, value ? "it must be an object" : "it is missing");
        json_object_foreach ((json_t *)value, name, member) {
                const char *const *known = names;

                while (*known != NULL && strcmp(*known, name) != 0)
                        known++;
                if (*known == NULL)
                        return plans_refuse_member(err, where, name, "there is no such member: is it misspelt?");
        }
        return 0;
}

/* Names that are part of ids at Stripe, of topics' snapshots and of what a product's code compares with. */
static bool plans_is_id(const json_t *value)
{
        const char *text = json_string_value(value);
        size_t length = text ? strspn(text, LETTERS DIGITS "_-") : 0;

        return length > 0 && text[length] == '\0' && length <= ID_LENGTH && strchr(LETTERS, text[0]) != NULL;
}

#define ID_RULE "it must be up to 40 small letters, digits, hyphens and underscores, and begin with a letter"

static bool plans_is_name(const json_t *value)
{
        const char *text = json_string_value(value);
        size_t length = text ? strlen(text) : 0;

        if (length == 0 || length > NAME_LENGTH)
                return false;
        for (const char *p = text; *p; p++)
                if ((unsigned char)*p < ' ' || *p == 0x7f)
                        return false;
        return text[0] != ' ' && text[length - 1] != ' ';
}

static bool plans_is_key(const json_t *value)
{
        const char *text = json_string_value(value);
        size_t length = text ? strspn(text, LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "_-.:") : 0;

        return length > 0 && text[length] == '\0' && length <= KEY_LENGTH;
}

static bool plans_is_within(const json_t *value, int64_t most)
{
        return json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= most;
}

static int plans_check_modules(const json_t *modules, const char *where, struct err *err)
{
        auto_json *seen = json_object();
        json_t *module;
        size_t i;

        if (!json_is_array(modules))
                return plans_refuse(err, where, "it must be a list of names");
        if (json_array_size(modules) > MODULES_MOST)
                return plans_refuse(err, where, "a plan has at most 100 modules");
        json_array_foreach (modules, i, module) {
                auto_free char *place = mem_printf("%s[%zu]", where, i);

                if (!plans_is_id(module))
                        return plans_refuse(err, place, ID_RULE);
                if (json_object_get(seen, json_string_value(module)) != NULL)
                        return plans_refuse(err, place, "this module is in the list twice");
                json_object_set_new(seen, json_string_value(module), json_true());
        }
        return 0;
}

/* All plans have the same limits: one that is misspelt, or forgotten, would be none. */
static int plans_check_limits(const json_t *limits, const json_t *first, const char *where, struct err *err)
{
        const char *name;
        json_t *limit;

        if (!json_is_object(limits))
                return plans_refuse(err, where, "it must be an object: a number, or null for no limit, by name");
        if (json_object_size(limits) > LIMITS_MOST)
                return plans_refuse(err, where, "a plan has at most 16 limits");
        json_object_foreach ((json_t *)limits, name, limit) {
                auto_json *key = json_string(name);

                if (!plans_is_id(key))
                        return plans_refuse_member(err, where, name, ID_RULE);
                if (!json_is_null(limit) && !plans_is_within(limit, LIMIT_MOST))
                        return plans_refuse_member(err, where, name, "it must be a whole number of 0 or more, or null");
                if (json_object_get(first, name) == NULL)
                        return plans_refuse_member(err, where, name, "the first plan has no such limit");
        }
        json_object_foreach ((json_t *)first, name, limit)
                if (json_object_get(limits, name) == NULL)
                        return plans_refuse_member(err, where, name, "it is missing; the first plan has it");
        return 0;
}

static int plans_read_price(struct plan *plan, json_t *price, const char *interval, const char *where, struct err *err)
{
        static const char *const members[] = { "amount", "lookup_key", NULL };
        const json_t *amount = json_object_get(price, "amount"), *key = json_object_get(price, "lookup_key");
        int rc = plans_check_object(price, where, members, err);

        if (rc < 0)
                return rc;
        if (!plans_is_within(amount, AMOUNT_MOST))
                return plans_refuse_member(err, where, "amount",
                                           "it must be a whole number of cents, at most 99999999: 9900 is $99");
        if (key == NULL) {
                auto_free char *usual = mem_printf("tenantry_%s_%s", plan->id, interval);

                json_set_text(price, "lookup_key", usual);
                key = json_object_get(price, "lookup_key");
        }
        if (!plans_is_key(key))
                return plans_refuse_member(err, where, "lookup_key",
                                           "it must be up to 200 letters, digits and any of _ - . :");
        plan->prices[plan->price_count++] = (struct plan_price){ .interval = interval,
                                                                 .amount = json_integer_value(amount),
                                                                 .lookup_key = json_string_value(key) };
        return 0;
}

static int plans_read_prices(struct plan *plan, json_t *prices, const char *where, struct err *err)
{
        static const char *const members[] = { "month", "year", NULL };
        int rc;

        if (plan->custom)
                return prices == NULL ? 0 : plans_refuse(err, where, "a plan with \"custom\": true has no prices");
        rc = plans_check_object(prices, where, members, err);
        for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(INTERVALS); i++) {
                auto_free char *place = plans_place(where, INTERVALS[i]);
                json_t *price = json_object_get(prices, INTERVALS[i]);

                if (price != NULL)
                        rc = plans_read_price(plan, price, INTERVALS[i], place, err);
        }
        if (rc == 0 && plan->price_count == 0)
                return plans_refuse(err, where, "it needs month, year, or both; or \"custom\": true instead of prices");
        return rc;
}

/* The parts of a plan in which places are named by a further member. */
static int plans_read_parts(struct plan *plan, json_t *object, const json_t *first, const char *where, struct err *err)
{
        auto_free char *modules = plans_place(where, "modules"), *limits = plans_place(where, "limits"),
                       *prices = plans_place(where, "prices");
        int rc = plans_check_modules(plan->modules, modules, err);

        if (rc == 0)
                rc = plans_check_limits(plan->limits, first, limits, err);
        if (rc == 0)
                rc = plans_read_prices(plan, json_object_get(object, "prices"), prices, err);
        return rc;
}

static int plans_read_plan(struct plan *plan, json_t *object, const json_t *first, const char *where, struct err *err)
{
        static const char *const members[] = { "id", "name", "custom", "modules", "limits", "prices", NULL };
        const json_t *custom = json_object_get(object, "custom");
        int rc = plans_check_object(object, where, members, err);

        if (rc < 0)
                return rc;
        if (!plans_is_id(json_object_get(object, "id")))
                return plans_refuse_member(err, where, "id", ID_RULE);
        if (!plans_is_name(json_object_get(object, "name")))
                return plans_refuse_member(err, where, "name",
                                           "it must be a text of 1 to 100 bytes, without blanks around it");
        if (custom != NULL && !json_is_boolean(custom))
                return plans_refuse_member(err, where, "custom", "it must be true or false");
        plan->id = json_text(object, "id");
        plan->name = json_text(object, "name");
        plan->custom = json_is_true(custom);
        plan->modules = json_object_get(object, "modules");
        plan->limits = json_object_get(object, "limits");
        json_object_set_new(object, "custom", json_boolean(plan->custom));
        return plans_read_parts(plan, object, first, where, err);
}

/* Against the plans before it: ids, and keys of prices. */
static int plans_check_unique(const struct plans *plans, const struct plan *plan, const char *where, struct err *err)
{
        auto_free char *prices = plans_place(where, "prices");

        if (plans_find(plans, plan->id) != NULL)
                return plans_refuse_member(err, where, "id", "an earlier plan has this id");
        for (size_t i = 0; i < plan->price_count; i++) {
                auto_free char *price = plans_place(prices, plan->prices[i].interval);
                bool twin = i > 0 && strcmp(plan->prices[0].lookup_key, plan->prices[i].lookup_key) == 0;

                if (twin || plans_find_by_price(plans, plan->prices[i].lookup_key, NULL) != NULL)
                        return plans_refuse_member(err, price, "lookup_key", "an earlier price has this key");
        }
        return 0;
}

static int plans_read_all(struct plans *plans, struct err *err)
{
        json_t *list = json_object_get(plans->document, "plans"), *object;
        const json_t *first = json_object_get(json_array_get(list, 0), "limits");
        size_t i;
        int rc = 0;

        if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > PLANS_MOST)
                return plans_refuse(err, "plans", "it must be a list of 1 to 32 plans");
        plans->items = mem_alloc(json_array_size(list), sizeof(struct plan));
        json_array_foreach (list, i, object) {
                auto_free char *place = mem_printf("plans[%zu]", i);

                rc = plans_read_plan(&plans->items[i], object, first, place, err);
                if (rc == 0)
                        rc = plans_check_unique(plans, &plans->items[i], place, err);
                if (rc < 0)
                        return rc;
                plans->count++;
        }
        return 0;
}

static int plans_read_trial(struct plans *plans, struct err *err)
{
        static const char *const members[] = { "plan", "days", NULL };
        const json_t *trial = json_object_get(plans->document, "trial"), *days = json_object_get(trial, "days");
        const char *id = json_text(trial, "plan");
        int rc = plans_check_object(trial, "trial", members, err);

        if (rc < 0)
                return rc;
        plans->trial = id ? plans_find(plans, id) : NULL;
        if (plans->trial == NULL)
                return plans_refuse(err, "trial.plan", "it must be the id of one of the plans");
        if (!plans_is_within(days, TRIAL_MOST))
                return plans_refuse(err, "trial.days", "it must be a whole number of days, at most 730; 0: no trial");
        plans->trial_days = json_integer_value(days);
        return 0;
}

static int plans_read(struct plans *plans, struct err *err)
{
        static const char *const members[] = { "currency", "trial", "plans", NULL };
        int rc = plans_check_object(plans->document, "", members, err);

        if (rc < 0)
                return rc;
        plans->currency = json_text(plans->document, "currency");
        if (plans->currency == NULL || strlen(plans->currency) != 3 || strspn(plans->currency, LETTERS) != 3)
                return plans_refuse(err, "currency", "it must be three small letters: usd");
        rc = plans_read_all(plans, err);
        return rc == 0 ? plans_read_trial(plans, err) : rc;
}

static void plans_take_hash(struct plans *plans)
{
        auto_free char *text = json_dumps(plans->document, JSON_COMPACT | JSON_SORT_KEYS), *hex = NULL;
        struct crypto_digest digest;

        crypto_sha256(text, strlen(text), &digest);
        hex = crypto_hex(digest.bytes, sizeof(digest.bytes));
        snprintf(plans->hash, sizeof(plans->hash), "%s", hex);
}

int plans_parse(const char *text, size_t length, struct plans **ret, struct err *err)
{
        struct plans *plans = NEW(struct plans);
        int rc;

        rc = json_parse(text, length, &plans->document, err);
        if (rc == 0)
                rc = plans_read(plans, err);
        if (rc < 0) {
                plans_free(plans);
                return rc;
        }
        plans_take_hash(plans);
        *ret = plans;
        return 0;
}

int plans_load(const char *path, struct plans **ret, struct err *err)
{
        auto_buf text = { 0 };
        struct err found;
        int rc;

        if (path == NULL)
                return plans_parse(plans_built_in, strlen(plans_built_in), ret, err);
        rc = file_read(path, FILE_BYTES, &text, &found);
        if (rc < 0)
                return err_field(err, "PLANS", "PLANS: %s", found.message);
        if (text.length > FILE_BYTES)
                return err_field(err, "PLANS", "PLANS: %.200s is larger than 256 KiB", path);
        rc = plans_parse(text.data, text.length, ret, &found);
        return rc < 0 ? err_field(err, "PLANS", "PLANS: %.200s: %s", path, found.message) : 0;
}

void plans_free(struct plans *plans)
{
        if (plans == NULL)
                return;
        json_decref(plans->document);
        free(plans->items);
        free(plans);
}

const struct plan *plans_find(const struct plans *plans, const char *id)
{
        for (size_t i = 0; i < plans->count; i++)
                if (strcmp(plans->items[i].id, id) == 0)
                        return &plans->items[i];
        return NULL;
}

const struct plan *plans_find_by_price(const struct plans *plans, const char *lookup_key,
                                       const struct plan_price **ret_price)
{
        for (size_t i = 0; i < plans->count; i++)
                for (size_t j = 0; j < plans->items[i].price_count; j++) {
                        const struct plan_price *price = &plans->items[i].prices[j];

                        if (strcmp(price->lookup_key, lookup_key) != 0)
                                continue;
                        if (ret_price != NULL)
                                *ret_price = price;
                        return &plans->items[i];
                }
        return NULL;
}

const struct plan_price *plan_find_price(const struct plan *plan, const char *interval)
{
        for (size_t i = 0; i < plan->price_count; i++)
                if (strcmp(plan->prices[i].interval, interval) == 0)
                        return &plan->prices[i];
        return NULL;
}

static json_t *plan_json(const struct plan *plan)
{
        json_t *prices = plan->custom ? json_null() : json_object();

        for (size_t i = 0; i < plan->price_count; i++)
                json_object_set_new(prices, plan->prices[i].interval,
                                    json_pack("{s:I}", "amount", (json_int_t)plan->prices[i].amount));
        return json_pack("{s:s, s:s, s:b, s:O, s:O, s:o}", "id", plan->id, "name", plan->name, "custom", plan->custom,
                         "modules", plan->modules, "limits", plan->limits, "prices", prices);
}

json_t *plans_json(const struct plans *plans)
{
        json_t *list = json_array();

        for (size_t i = 0; i < plans->count; i++)
                json_array_append_new(list, plan_json(&plans->items[i]));
        return json_pack("{s:s, s:{s:s, s:I}, s:o}", "currency", plans->currency, "trial", "plan", plans->trial->id,
                         "days", (json_int_t)plans->trial_days, "plans", list);
}
