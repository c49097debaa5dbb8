/* A service as small as can be: it takes one kind of event and greets tenants. docs/architecture.md tells how it is
 * done. */
#include "common/durable/worker.h"

static const struct contract_field GREETING[] = {
        { .name = "tenant_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "words",
          .kind = CONTRACT_LIST,
          .required = true,
          .max = 5,
          .fields = &(const struct contract_field){ .kind = CONTRACT_TEXT, .max = 20 } },
        { .name = "alone", .kind = CONTRACT_BOOLEAN },
        { .name = "remind_after_s", .kind = CONTRACT_INTEGER, .least = 1, .most = 3e6 },
};
static const struct contract_field NOTE[] = {
        { .name = "body_base64", .kind = CONTRACT_BYTES, .required = true, .max = 1000 },
};
static const char *const KEY[] = { "tenant_id", NULL };
static const struct contract CONTRACTS[] = {
        { .type = "example.greeting.requested.v1", .topic = "example.v1", .key = KEY, .fields = GREETING, .count = 4 },
        { .type = "example.note.received.v1", .topic = "example.note.v1", .is_raw = true, .fields = NOTE, .count = 1 },
        { .type = NULL },
};

static enum step_result write_greeting(struct saga *saga)
{
        auto_free char *words = json_print(json_object_get(saga_data(saga), "words"));

        return saga_query(saga,
                          "insert into greeting (tenant_id, words) values ($1::uuid, $2::jsonb) on conflict do nothing",
                          PARAMS(saga_tenant(saga), words), saga_rows_done);
}

static const struct saga_step STEPS[] = { { .name = "write", .execute = write_greeting, .limit_ms = MINUTES(5) } };
static const struct saga_kind GREET = {
        .name = "greet", .steps = STEPS, .count = 1, .no_return = 1
}; /* it can turn back */
static const struct saga_kind *const KINDS[] = { &GREET, NULL };

int main(int argc, char **argv)
{
        static const struct worker_settings settings = {
                .group = "tenantry-example", .contracts = CONTRACTS, .kinds = KINDS, .sagas = 4, .has_timers = true
        };

        return worker_main(argc, argv, "example", "greets tenants", &settings);
}
