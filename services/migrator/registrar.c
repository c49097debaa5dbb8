/* From TENANT_MIGRATIONS into the register: see registrar.h. */
#include "services/migrator/registrar.h"

#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/contracts/migration.h"
#include "common/service/periodic.h"

#define INTERVAL SECONDS(1)
#define TIMEOUT  SECONDS(60)

static const char SQL_REGISTER[] = "select * from register_at_start($1::jsonb)";

struct registrar {
        struct migrator *migrator;
        struct migration_set *set;
        bool done;
        struct periodic *periodic;
};

static void registrar_registered(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct registrar *registrar = context;

        if (err != NULL) {
                log_warn("the migration files could not be registered yet", "error", err->message, NULL);
                return;
        }
        for (int row = 0; row < pg_rows_count(rows); row++)
                log_error("a migration file is refused", "file", pg_text(rows, row, "name"), "reason",
                          pg_text(rows, row, "detail"), NULL);
        registrar->done = true;
}

static void registrar_act(void *context)
{
        struct registrar *registrar = context;
        auto_json *files = NULL;
        auto_free char *text = NULL;

        if (registrar_is_done(registrar))
                return;
        files = json_array();
        for (size_t i = 0; i < registrar->set->count; i++)
                json_array_append_new(files, migration_file_facts(&registrar->set->items[i]));
        text = json_print(files);
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
        return registrar->set == NULL || registrar->done;
}
