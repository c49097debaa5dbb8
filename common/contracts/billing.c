/* What billing is told: see billing.h. */
#include "common/contracts/billing.h"

#include "common/contracts/stripe_event.h"

static const struct contract_field RECEIVED[] = {
        { .name = "body_base64", .kind = CONTRACT_BYTES, .required = true, .max = STRIPE_BYTES },
};

#define COUNT_MOST 9007199254740991.0 /* what JavaScript still counts exactly */

static const struct contract_field A_MODULE = { .kind = CONTRACT_NAME, .max = 40 };
static const struct contract_field LIMIT[] = {
        { .name = "name", .kind = CONTRACT_NAME, .required = true, .max = 40 },
        { .name = "most", .kind = CONTRACT_INTEGER, .least = 0, .most = COUNT_MOST }, /* left out: no limit */
};
static const struct contract_field A_LIMIT = { .kind = CONTRACT_OBJECT, .fields = LIMIT, .count = ARRAY_SIZE(LIMIT) };

static const struct contract_field OVERRIDE[] = {
        { .name = "tenant_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "by", .kind = CONTRACT_TEXT, .required = true, .max = 200 },
        { .name = "reason", .kind = CONTRACT_TEXT, .required = true, .max = 500 },
        { .name = "plan", .kind = CONTRACT_NAME, .max = 40 },
        { .name = "modules", .kind = CONTRACT_LIST, .max = 100, .fields = &A_MODULE },
        { .name = "limits", .kind = CONTRACT_LIST, .max = 16, .fields = &A_LIMIT },
        { .name = "until", .kind = CONTRACT_TIME },
        { .name = "remove", .kind = CONTRACT_BOOLEAN },
};

static const struct contract_field USAGE[] = {
        { .name = "tenant_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "at", .kind = CONTRACT_TIME, .required = true },
        { .name = "branches", .kind = CONTRACT_INTEGER, .least = 0, .most = COUNT_MOST },
        { .name = "users", .kind = CONTRACT_INTEGER, .least = 0, .most = COUNT_MOST },
        { .name = "items", .kind = CONTRACT_INTEGER, .least = 0, .most = COUNT_MOST },
};

static const struct contract_field CHECKOUT[] = {
        { .name = "tenant_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "plan", .kind = CONTRACT_NAME, .required = true, .max = 40 },
        { .name = "interval", .kind = CONTRACT_CHOICE, .required = true, .choices = "month|year" },
};

static const struct contract_field COMMAND[] = {
        { .name = "tenant_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "reason", .kind = CONTRACT_TEXT, .max = 500 },
};

/* proration_date: of a preview, so that the change costs what was shown. */
static const struct contract_field CHANGE[] = {
        { .name = "tenant_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "plan", .kind = CONTRACT_NAME, .required = true, .max = 40 },
        { .name = "interval", .kind = CONTRACT_CHOICE, .required = true, .choices = "month|year" },
        { .name = "proration_date", .kind = CONTRACT_INTEGER, .least = 1, .most = 4102444800.0 },
};

/* It gives something, or takes back what was given. */
static int billing_check_override(const json_t *data, struct err *err)
{
        bool gives = json_object_get(data, "plan") != NULL || json_object_get(data, "modules") != NULL ||
                     json_object_get(data, "limits") != NULL;

        if (json_flag(data, "remove") && (gives || json_object_get(data, "until") != NULL))
                return err_field(err, "remove", "remove takes the override back, and goes with nothing else");
        if (!json_flag(data, "remove") && !gives)
                return err_field(err, "plan", "an override has a plan, modules or limits, or remove");
        return 0;
}

static int billing_check_usage(const json_t *data, struct err *err)
{
        if (json_object_get(data, "branches") == NULL && json_object_get(data, "users") == NULL &&
            json_object_get(data, "items") == NULL)
                return err_field(err, "users", "a report has branches, users or items");
        return 0;
}

static const char *const TENANT_KEY[] = { "tenant_id", NULL };

/* The arguments after the list of fields are further members of the contract. */
#define BILLING_CONTRACT(name, list, ...)                                                                              \
        {                                                                                                              \
                .type = name, .topic = BILLING_COMMAND_TOPIC, .key = TENANT_KEY, .fields = list,                       \
                .count = ARRAY_SIZE(list), __VA_ARGS__                                                                 \
        }

const struct contract BILLING_CONTRACTS[] = {
        { .type = STRIPE_EVENT,
          .topic = STRIPE_TOPIC,
          .is_raw = true,
          .fields = RECEIVED,
          .count = ARRAY_SIZE(RECEIVED),
          .complete = stripe_event_complete,
          .digest = "digest" },
        BILLING_CONTRACT("billing.checkout.requested.v1", CHECKOUT),
        BILLING_CONTRACT("billing.portal.requested.v1", COMMAND),
        BILLING_CONTRACT("billing.change_plan.requested.v1", CHANGE),
        BILLING_CONTRACT("billing.cancel.requested.v1", COMMAND),
        BILLING_CONTRACT("billing.resume.requested.v1", COMMAND),
        BILLING_CONTRACT("billing.preview.requested.v1", CHANGE),
        BILLING_CONTRACT("billing.end_duplicate.requested.v1", COMMAND),
        BILLING_CONTRACT("billing.override.requested.v1", OVERRIDE, .check = billing_check_override),
        BILLING_CONTRACT("billing.usage.reported.v1", USAGE, .check = billing_check_usage),
        { .type = NULL },
};
