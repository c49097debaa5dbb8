/* Key rotation: see rewrap.h. */
#include "services/provisioner/rewrap.h"

#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/service/periodic.h"

#include <stdio.h>
#include <string.h>

#define INTERVAL SECONDS(1)
#define BATCH    50

static const char SQL_FIND[] = "select * from secrets_to_rewrap($1, $2, $3::int)";

static const char SQL_STORE[] = "select rewrapped($1::uuid, $2, $3::int, $4, $5)";

struct rewrap {
        struct provisioner *provisioner;
        struct periodic *periodic;
        bool control; /* which ring is looked at now; the other one next */
        char unknown_keys[2][64];
        size_t under_way; /* of those that were found last */
        struct metric *old_key[2], *unknown_key[2];
};

static void stored(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct rewrap *rewrap = context;

        (void)rows;
        rewrap->under_way--;
        if (err != NULL)
                log_warn("a secret could not be sealed anew; it will be tried again", "error", err->message, NULL);
}

static const struct keyring *ring_now(const struct rewrap *rewrap)
{
        return rewrap->control ? rewrap->provisioner->control_keys : rewrap->provisioner->app_keys;
}

static void seal_anew(struct rewrap *rewrap, const struct pg_rows *rows, int row)
{
        const struct keyring *ring = ring_now(rewrap);
        const char *tenant = pg_text(rows, row, "tenant_id"), *field = pg_text(rows, row, "field");
        const char *generation = pg_text(rows, row, "generation"), *old = pg_text(rows, row, "sealed");
        auto_secret char *plain = NULL;
        auto_free char *sealed = NULL;
        struct err err;

        if (keyring_open(ring, tenant, field, atoi(generation), old, &plain, &err) < 0) {
                if (err.class == ERR_BUSY)
                        snprintf(rewrap->unknown_keys[rewrap->control], sizeof(rewrap->unknown_keys[0]), "%.*s",
                                 (int)strcspn(old, "."), old);
                else
                        log_error("a stored secret does not open", "tenant", tenant, "field", field, "error",
                                  err.message, NULL);
                return;
        }
        sealed = keyring_seal(ring, tenant, field, atoi(generation), plain);
        rewrap->under_way++;
        pg_pool_exec(rewrap->provisioner->service->catalog, SECONDS(5), SQL_STORE,
                     PARAMS(tenant, field, generation, old, sealed), stored, rewrap);
}

static void found(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct rewrap *rewrap = context;

        if (err != NULL || rewrap->provisioner->service->stopping)
                return;
        rewrap->unknown_keys[rewrap->control][0] = '\0';
        for (int row = 0; row < pg_rows_count(rows); row++)
                seal_anew(rewrap, rows, row);
        metric_set(rewrap->old_key[rewrap->control], pg_rows_count(rows));
        metric_set(rewrap->unknown_key[rewrap->control], rewrap->unknown_keys[rewrap->control][0] != '\0');
}

static void look(void *context)
{
        struct rewrap *rewrap = context;
        char limit[8];

        if (rewrap->under_way > 0)
                return;
        snprintf(limit, sizeof(limit), "%d", BATCH);
        rewrap->control = !rewrap->control;
        periodic_ask(rewrap->periodic, SECONDS(5), SQL_FIND,
                     PARAMS(rewrap->control ? "control" : "app", keyring_primary(ring_now(rewrap)), limit), found);
}

struct rewrap *rewrap_new(struct provisioner *provisioner)
{
        static const char *const labels[] = { "ring=\"app\"", "ring=\"control\"" };
        struct rewrap *rewrap = NEW(struct rewrap);

        rewrap->provisioner = provisioner;
        for (int i = 0; i < 2; i++) {
                rewrap->old_key[i] = metric_gauge("tenantry_secrets_old_key", labels[i],
                                                  "Secrets found under another key than the primary one, 50 at most.");
                rewrap->unknown_key[i] = metric_gauge("tenantry_key_unknown", labels[i],
                                                      "1 while secrets are sealed with a key that is in no ring.");
        }
        rewrap->periodic = periodic_new(provisioner->service, 0, INTERVAL, look, rewrap);
        return rewrap;
}

void rewrap_free(struct rewrap *rewrap)
{
        if (rewrap == NULL)
                return;
        periodic_free(rewrap->periodic);
        free(rewrap);
}

const char *rewrap_unknown_key(const struct rewrap *rewrap)
{
        for (int i = 0; i < 2; i++)
                if (rewrap->unknown_keys[i][0] != '\0')
                        return rewrap->unknown_keys[i];
        return NULL;
}
