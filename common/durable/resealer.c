/* Key rotation: see resealer.h. */
#include "common/durable/resealer.h"

#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/service/periodic.h"

#include <stdio.h>
#include <string.h>

#define INTERVAL   SECONDS(1)
#define BATCH      50
#define RINGS_MOST 4

static const char SQL_FIND[] = "select * from secrets_to_rewrap($1, $2, $3::int)";

static const char SQL_STORE[] = "select rewrapped($1::uuid, $2, $3::int, $4, $5)";

struct ring {
        struct resealer_ring given;
        char unknown_key[64]; /* "" = none */
        struct metric *old_keys, *unknown;
};

struct resealer {
        struct service *service;
        struct periodic *periodic;
        struct ring rings[RINGS_MOST];
        size_t count, now; /* which ring is being checked; then the next one */
        size_t under_way;  /* of those found last */
};

static void resealer_stored(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct resealer *resealer = context;

        (void)rows;
        resealer->under_way--;
        if (err != NULL)
                log_warn("a secret could not be re-sealed; it will be tried again", "error", err->message, NULL);
}

static void resealer_seal(struct resealer *resealer, struct ring *ring, const struct pg_rows *rows, int row)
{
        const char *tenant = pg_text(rows, row, "tenant_id"), *field = pg_text(rows, row, "field");
        const char *generation = pg_text(rows, row, "generation"), *old = pg_text(rows, row, "sealed");
        auto_secret char *plain = NULL;
        auto_free char *sealed = NULL;
        struct err err;

        if (keyring_open(ring->given.keys, tenant, field, atoi(generation), old, &plain, &err) < 0) {
                if (err.class == ERR_BUSY)
                        snprintf(ring->unknown_key, sizeof(ring->unknown_key), "%.*s", (int)strcspn(old, "."), old);
                else
                        log_error("a stored secret cannot be decrypted", "tenant", tenant, "field", field, "error",
                                  err.message, NULL);
                return;
        }
        sealed = keyring_seal(ring->given.keys, tenant, field, atoi(generation), plain);
        resealer->under_way++;
        pg_pool_exec(resealer->service->catalog, SECONDS(5), SQL_STORE, PARAMS(tenant, field, generation, old, sealed),
                     resealer_stored, resealer);
}

static void resealer_found(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct resealer *resealer = context;
        struct ring *ring = &resealer->rings[resealer->now];

        if (err != NULL || resealer->service->stopping)
                return;
        ring->unknown_key[0] = '\0';
        for (int row = 0; row < pg_rows_count(rows); row++)
                resealer_seal(resealer, ring, rows, row);
        metric_set(ring->old_keys, pg_rows_count(rows));
        metric_set(ring->unknown, ring->unknown_key[0] != '\0');
}

static void resealer_look(void *context)
{
        struct resealer *resealer = context;
        const struct resealer_ring *ring;
        char limit[8];

        if (resealer->under_way > 0)
                return;
        snprintf(limit, sizeof(limit), "%d", BATCH);
        resealer->now = (resealer->now + 1) % resealer->count;
        ring = &resealer->rings[resealer->now].given;
        periodic_ask(resealer->periodic, SECONDS(5), SQL_FIND, PARAMS(ring->name, keyring_primary(ring->keys), limit),
                     resealer_found);
}

struct resealer *resealer_new(struct service *service, const struct resealer_ring *rings, size_t count)
{
        struct metric_family *old_keys =
                metric_gauge_family("tenantry_secrets_old_key", "ring",
                                    "Secrets found that are sealed with a key other than the primary one, 50 at most.");
        struct metric_family *unknown = metric_gauge_family(
                "tenantry_key_unknown", "ring", "1 while secrets are sealed with a key that is in no ring.");
        struct resealer *resealer = NEW(struct resealer);

        assert(count > 0 && count <= RINGS_MOST);
        resealer->service = service;
        resealer->count = count;
        for (size_t i = 0; i < count; i++) {
                resealer->rings[i].given = rings[i];
                resealer->rings[i].old_keys = METRIC_OF(old_keys, rings[i].name);
                resealer->rings[i].unknown = METRIC_OF(unknown, rings[i].name);
        }
        resealer->periodic = periodic_new(service, 0, INTERVAL, resealer_look, resealer);
        return resealer;
}

void resealer_free(struct resealer *resealer)
{
        if (resealer == NULL)
                return;
        periodic_free(resealer->periodic);
        free(resealer);
}

const char *resealer_unknown_key(const struct resealer *resealer)
{
        for (size_t i = 0; i < resealer->count; i++)
                if (resealer->rings[i].unknown_key[0] != '\0')
                        return resealer->rings[i].unknown_key;
        return NULL;
}
