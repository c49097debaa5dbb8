/* Provisioning: from an unused name to a tenant whose first administrator can be invited. Each step may run twice; each
 * finds out what is already done. */
#include "services/provisioner/provision.h"
#include "common/base/crypto.h"
#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/tenant/identity.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/migrate.h"

#include <string.h>

#define PASSWORD_LENGTH   32
#define PLANT_TIMEOUT     SECONDS(10)
#define NO_CAPACITY_DELAY SECONDS(30)

static const char SQL_RESERVE[] = "select reserve($1::uuid, $2::bigint, $3::uuid, $4, $5, $6, $7::jsonb) as facts "
                                  "from saga_at($1::uuid, $2::bigint, $8)";

static const char SQL_HAND_OVER[] = "create table if not exists tenantry.handed_over ("
                                    "at timestamptz not null default clock_timestamp())";

static const char SQL_USED[] = "select to_regclass('tenantry.handed_over') is not null as used";

static enum step_result provision_reserve_names(struct saga *saga);
static enum step_result provision_release_names(struct saga *saga);
static enum step_result provision_create_database(struct saga *saga);
static enum step_result provision_delete_database(struct saga *saga);
static enum step_result provision_await_ready(struct saga *saga);
static enum step_result provision_read_connection(struct saga *saga);
static enum step_result provision_plant_identity(struct saga *saga);
static enum step_result provision_create_admin(struct saga *saga);
static enum step_result provision_open_access(struct saga *saga);

/* clang-format off */
static const struct saga_step STEPS[] = {
        /* step             do                         undo                       limit                  % */
        /* a full fleet waits for room */
        { "reserve",        provision_reserve_names,   provision_release_names,   MINUTES(7 * 24 * 60),  0 },
        /* so does a full quota */
        { "create",         provision_create_database, provision_delete_database, MINUTES(7 * 24 * 60), 10 },
        /* an outage of the provider */
        { "await_ready",    provision_await_ready,     NULL,                      MINUTES(24 * 60),     25 },
        { "connect",        provision_read_connection, NULL,                      MINUTES(15),          45 },
        { "plant_identity", provision_plant_identity,  NULL,                      MINUTES(15),          55 },
        { "migrate",        migrate_database,          NULL,                      MINUTES(60),          65 },
        /* the point of no return */
        { "create_admin",   provision_create_admin,    NULL,                      MINUTES(30),          80 },
        { "open_access",    provision_open_access,     NULL,                      MINUTES(30),          88 },
        /* a separate activity now */
        { "invite",         activity_done,             NULL,                      MINUTES(60),          95 },
};
/* clang-format on */

#define NO_RETURN 6

const struct saga_kind PROVISION = {
        .name = "provision",
        .steps = STEPS,
        .count = ARRAY_SIZE(STEPS),
        .no_return = NO_RETURN,
        .open = activity_open,
        .close = activity_close,
        .interrupt = activity_interrupt,
};

/* Database and logins are named after tenant and generation, so that anyone who finds one knows whose it is. */
static char *provision_database_name(const struct activity *activity)
{
        char hex[33];
        int length = 0;

        for (const char *p = activity_tenant(activity, "tenant_id"); *p; p++)
                if (*p != '-' && length < 32)
                        hex[length++] = *p;
        hex[length] = '\0';
        if (strcmp(activity->driver->name, "supabase") == 0)
                return mem_printf("%s-%s-g%d", activity->provisioner->config->supabase_prefix, hex,
                                  activity_generation(activity));
        return mem_printf("tn_%s_g%d", hex, activity_generation(activity));
}

static enum step_result provision_names_reserved(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_json *facts = NULL;
        const char *text;
        struct err bad;

        if (err != NULL)
                return saga_retry(saga, err);
        text = pg_text(rows, 0, "facts");
        if (text == NULL) {
                err_set(&bad, ERR_BUSY, "no_capacity",
                        "no server has room for another tenant: add one or raise a capacity");
                bad.retry_after = NO_CAPACITY_DELAY;
                return saga_retry(saga, &bad);
        }
        if (json_parse(text, strlen(text), &facts, &bad) < 0)
                return saga_retry(saga, &bad);
        if (json_text(facts, "unknown_region") != NULL) {
                err_set(&bad, ERR_PERMANENT, "unknown_region", "no server is in the region %.60s; there are: %.200s",
                        json_text(facts, "unknown_region"), json_text(facts, "regions"));
                return saga_fail(saga, &bad);
        }
        json_decref(activity->facts);
        activity->facts = TAKE_PTR(facts);
        return STEP_DONE;
}

/* Names and secrets are chosen and stored before they are used, so that a later attempt finds what this one made. After
 * a restore of the catalog the tenant may already have its database: until the driver has looked, nothing is undone. */
static enum step_result provision_reserve_names(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_secret char *owner_password = crypto_random_password(PASSWORD_LENGTH);
        auto_secret char *app_password = crypto_random_password(PASSWORD_LENGTH);
        auto_free char *name = provision_database_name(activity), *owner = mem_printf("%s_owner", name);
        auto_free char *app = mem_printf("%s_app_a", name), *secrets_text = NULL;
        auto_json *secrets = json_array();

        saga_keep(saga);
        json_array_append_new(secrets, activity_seal(activity, "owner_password", activity_generation(activity),
                                                     "control", owner_password));
        json_array_append_new(secrets, activity_seal(activity, "app_password", 1, "app", app_password));
        secrets_text = json_print(secrets);
        return saga_query(saga, SQL_RESERVE,
                          PARAMS(saga_id(saga), saga_fence(saga), saga_tenant(saga), name, app, owner, secrets_text,
                                 saga_step_name(saga)),
                          provision_names_reserved);
}

static enum step_result provision_create_database(struct saga *saga)
{
        return activity_of(saga)->driver->create(saga);
}

static enum step_result provision_drop_unused(struct saga *saga)
{
        activity_disconnect(activity_of(saga));
        return activity_of(saga)->driver->drop(saga);
}

static enum step_result provision_use_told(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct err used;

        if (err != NULL)
                return activity_retry(saga, err);
        if (!pg_bool(rows, 0, "used"))
                return provision_drop_unused(saga);
        err_set(&used, ERR_PERMANENT, "in_use",
                "a customer has used this database: it is not removed just because its provisioning failed");
        return saga_fail(saga, &used);
}

enum step_result provision_ask_for_use(struct saga *saga, saga_rows_then then)
{
        return saga_script(saga, activity_of(saga)->conn, PLANT_TIMEOUT, SQL_USED, then);
}

static enum step_result provision_ask_before_drop(struct saga *saga)
{
        return provision_ask_for_use(saga, provision_use_told);
}

/* Undo: removes what was created, so that a new attempt in the next generation starts clean. But not what was once
 * handed over: a restored catalog may be in the middle of a provisioning that succeeded long ago. */
static enum step_result provision_delete_database(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        if (json_flag(saga_data(saga), "cancelled") || activity_database(activity, "host") == NULL)
                return activity->driver->drop(saga); /* it was cancelled, or never reached */
        activity->if_gone = provision_drop_unused;
        return activity_connect(saga, true, true, provision_ask_before_drop);
}

static enum step_result provision_release_names(struct saga *saga)
{
        return activity_learn(saga, json_pack("{s:s}", "database_status", "deleted"));
}

static enum step_result provision_await_ready(struct saga *saga)
{
        return activity_of(saga)->driver->await_ready(saga);
}

static enum step_result provision_read_connection(struct saga *saga)
{
        return activity_of(saga)->driver->read_connection(saga);
}

static enum step_result provision_identity_planted(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        struct err wrong;

        if (err != NULL)
                return activity_retry(saga, err);
        if (pg_rows_count(rows) != 1 || strcmp(pg_text(rows, 0, "tenant_id"), saga_tenant(saga)) != 0 ||
            pg_int(rows, 0, "generation") != activity_generation(activity)) {
                activity_disconnect(activity);
                err_set(&wrong, ERR_PERMANENT, "wrong_identity",
                        "the database reached belongs to another tenant: nothing was done to it");
                return saga_fail(saga, &wrong);
        }
        if (pg_bool(rows, 0, "used"))
                saga_keep(saga);
        else
                json_object_set_new(saga_data(saga), "unused", json_true());
        FAILPOINT(identity_after_plant, NULL);
        return activity->driver->prepare(saga);
}

static enum step_result provision_write_marker(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql =
                mem_printf("%s" IDENTITY_TABLE "insert into tenantry.identity (tenant_id, generation) values ('%s', %d)"
                           "    on conflict do nothing;"
                           "select tenant_id, generation, "
                           "to_regclass('tenantry.handed_over') is not null as used "
                           "from tenantry.identity",
                           MIGRATION_LEDGER, saga_tenant(saga), activity_generation(activity));

        return saga_script(saga, activity->conn, PLANT_TIMEOUT, sql, provision_identity_planted);
}

static enum step_result provision_plant_identity(struct saga *saga)
{
        return activity_connect(saga, false, true, provision_write_marker);
}

static enum step_result provision_handed_over(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return err ? activity_retry(saga, err) : activity_of(saga)->driver->create_admin(saga);
}

static enum step_result provision_hand_over(struct saga *saga)
{
        return saga_script(saga, activity_of(saga)->conn, PLANT_TIMEOUT, SQL_HAND_OVER, provision_handed_over);
}

/* From here on the database belongs to the customer, and records that itself: a restored catalog may not know it. */
static enum step_result provision_create_admin(struct saga *saga)
{
        return activity_connect(saga, false, false, provision_hand_over);
}

static enum step_result provision_use_proved(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct err lost;

        if (err != NULL)
                return activity_retry(saga, err);
        if (pg_bool(rows, 0, "used"))
                return activity_of(saga)->driver->apply_access(saga);
        err_set(&lost, ERR_GONE, "not_handed_over", "the database is in the state before it was handed over");
        return activity_retry(saga, &lost);
}

static enum step_result provision_prove_use(struct saga *saga)
{
        return provision_ask_for_use(saga, provision_use_proved);
}

/* A server that fell back since may lack the steps before this one. */
static enum step_result provision_open_access(struct saga *saga)
{
        return activity_connect(saga, false, false, provision_prove_use);
}
