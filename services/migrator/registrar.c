/* From TENANT_MIGRATIONS into the register: see registrar.h. */
#include "services/migrator/registrar.h"

#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/contracts/migration.h"
#include "common/service/periodic.h"

#define INTERVAL SECONDS(1)
#define TIMEOUT  SECONDS(15)

static const char SQL_REGISTER[] = "select register_at_start($1::jsonb) as refused";

struct registrar {
        struct migrator *migrator;
        struct migration_set *set;
        size_t next;
        struct periodic *periodic;
};

static void registrar_registered(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct registrar *registrar = context;
        const char *name = registrar->set->items[registrar->next].name, *refused;

        if (err != NULL) {
                log_warn("a migration file could not be registered yet", "file", name, "error", err->message, NULL);
                return;
        }
        refused = pg_text(rows, 0, "refused");
        if (refused != NULL)
                log_error("a migration file is refused", "file", name, "reason", refused, NULL);
        registrar->next++;
        periodic_act(registrar->periodic);
}

static void registrar_act(void *context)
{
        struct registrar *registrar = context;
        auto_json *facts = NULL;
        auto_free char *text = NULL;

        if (registrar_is_done(registrar))
                return;
        facts = migration_file_facts(&registrar->set->items[registrar->next]);
        text = json_print(facts);
        periodic_ask(registrar->periodic, TIMEOUT, SQL_REGISTER, PARAMS(text), registrar_registered);
}

int registrar_new(struct migrator *migrator, struct registrar **ret, struct err *err)
{
        struct registrar *registrar = NEW(struct registrar);
        const char *directory = migrator->config->migrations;
        int rc = directory ? migration_set_load(directory, &registrar->set, err) : 0;

        registrar->migrator = migrator;
        registrar->periodic = periodic_new(migrator->service, 0, INTERVAL, registrar_act, registrar);
        *ret = registrar;
        return rc;
}

void registrar_free(struct registrar *registrar)
{
        if (registrar == NULL)
                return;
        periodic_free(registrar->periodic);
        migration_set_free(registrar->set);
        free(registrar);
}

bool registrar_is_done(const struct registrar *registrar)
{
        return registrar->set == NULL || registrar->next == registrar->set->count;
}
