/* What may be requested of the fleet's schema: see migration.h. */
#include "common/contracts/migration.h"

#include "common/base/duration.h"
#include "common/base/memory.h"
#include "common/migration/lint.h"
#include "common/migration/migration.h"

#include <string.h>

#define LIST_LIMIT 1000
#define NAME_LIMIT 255 /* bytes: of a file's name in a directory, and fewer than a message key may have */
#define MONTH      (30 * 24 * 3600 * 1000.0) /* milliseconds */

static const struct contract_field REGISTER[] = {
        { .name = "name", .kind = CONTRACT_TEXT, .required = true, .max = 200 },
        { .name = "sql", .kind = CONTRACT_SOURCE, .required = true, .max = MIGRATION_EVENT_LIMIT },
        { .name = "verify", .kind = CONTRACT_SOURCE, .max = MIGRATION_VERIFY_LIMIT },
        { .name = "out_of_order", .kind = CONTRACT_BOOLEAN },
        { .name = "reason", .kind = CONTRACT_TEXT, .max = 500 },
};

static const struct contract_field WITHDRAW[] = {
        { .name = "name", .kind = CONTRACT_TEXT, .required = true, .max = 200 },
        { .name = "reason", .kind = CONTRACT_TEXT, .max = 500 },
};

static const struct contract_field LABEL = { .kind = CONTRACT_NAME, .max = 40 };
static const struct contract_field RULE = { .kind = CONTRACT_NAME, .max = 60 };
static const struct contract_field TENANT = { .kind = CONTRACT_UUID };

static const struct contract_field WAVE_FIELDS[] = {
        { .name = "percent", .kind = CONTRACT_NUMBER, .least = 0.01, .most = 100 },
        { .name = "count", .kind = CONTRACT_INTEGER, .least = 1, .most = 1e6 },
        { .name = "labels", .kind = CONTRACT_LIST, .max = 20, .fields = &LABEL },
        { .name = "plan", .kind = CONTRACT_NAME, .max = 40 },
};

static const struct contract_field WAVE = { .kind = CONTRACT_OBJECT,
                                            .fields = WAVE_FIELDS,
                                            .count = ARRAY_SIZE(WAVE_FIELDS) };

static const struct contract_field RUN[] = {
        { .name = "run_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "target", .kind = CONTRACT_TEXT, .max = 50 },
        { .name = "strategy", .kind = CONTRACT_CHOICE, .choices = "all|gradual|canary|waves" },
        { .name = "canary", .kind = CONTRACT_UUID },
        { .name = "waves", .kind = CONTRACT_LIST, .max = 50, .fields = &WAVE },
        { .name = "labels", .kind = CONTRACT_LIST, .max = 20, .fields = &LABEL },
        { .name = "tenants", .kind = CONTRACT_LIST, .max = LIST_LIMIT, .fields = &TENANT },
        { .name = "max_failure_rate", .kind = CONTRACT_NUMBER, .least = 0, .most = 1 },
        { .name = "max_failures", .kind = CONTRACT_INTEGER, .least = 0, .most = 1e6 },
        { .name = "soak", .kind = CONTRACT_DURATION, .least = 0, .most = MONTH },
        { .name = "on_halt", .kind = CONTRACT_CHOICE, .choices = "pause|rollback" },
        { .name = "concurrency", .kind = CONTRACT_INTEGER, .least = 1, .most = 200 },
        { .name = "lock_timeout", .kind = CONTRACT_DURATION, .least = 10, .most = 600 * 1000.0 },
        { .name = "statement_timeout", .kind = CONTRACT_DURATION, .least = 100, .most = 24 * 3600 * 1000.0 },
        { .name = "allow", .kind = CONTRACT_LIST, .max = 50, .fields = &RULE },
        { .name = "forecast", .kind = CONTRACT_CHOICE, .choices = "sample|all|none" },
        { .name = "out_of_order", .kind = CONTRACT_BOOLEAN },
        { .name = "dry_run", .kind = CONTRACT_BOOLEAN },
        { .name = "require_staging", .kind = CONTRACT_BOOLEAN },
        { .name = "queue", .kind = CONTRACT_BOOLEAN },
        { .name = "reason", .kind = CONTRACT_TEXT, .max = 500 },
};

static const struct contract_field COMMAND[] = {
        { .name = "run_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "reason", .kind = CONTRACT_TEXT, .max = 500 },
};

static const struct contract_field RETRY[] = {
        { .name = "run_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "tenant_id", .kind = CONTRACT_UUID },
        { .name = "code", .kind = CONTRACT_TEXT, .max = 40 },
        { .name = "reason", .kind = CONTRACT_TEXT, .max = 500 },
};

static const struct contract_field MARK[] = {
        { .name = "run_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "tenant_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "reason", .kind = CONTRACT_TEXT, .required = true, .max = 500 },
};

static const struct contract_field SIGNAL[] = {
        { .name = "run_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "name", .kind = CONTRACT_NAME, .required = true, .max = 40 },
        { .name = "verdict", .kind = CONTRACT_CHOICE, .required = true, .choices = "halt|good" },
        { .name = "reason", .kind = CONTRACT_TEXT, .max = 500 },
};

static const struct contract_field DRIFT[] = {
        { .name = "check_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "schema", .kind = CONTRACT_BOOLEAN },
        { .name = "labels", .kind = CONTRACT_LIST, .max = 20, .fields = &LABEL },
        { .name = "tenants", .kind = CONTRACT_LIST, .max = LIST_LIMIT, .fields = &TENANT },
        { .name = "reason", .kind = CONTRACT_TEXT, .max = 500 },
};

static const char *const FILE_KEY[] = { "name", NULL };
static const char *const RUN_KEY[] = { "run_id", NULL };
static const char *const CHECK_KEY[] = { "check_id", NULL };

static int migration_check_name(const json_t *data, struct err *err)
{
        if (strlen(json_text(data, "name")) > NAME_LIMIT)
                return err_field(err, "name", "name has more than %d bytes", NAME_LIMIT);
        return 0;
}

/* The error is about the file, whose name it begins with. */
static int migration_check_file(const json_t *data, struct err *err)
{
        const char *sql = json_text(data, "sql"), *verify = json_text(data, "verify");
        struct migration migration;

        if (migration_check_name(data, err) < 0)
                return -ERR_INPUT;
        if (verify != NULL && migration_verify_length(verify) == 0)
                return err_field(err, "verify", "verify must be one query that returns true");
        if (strlen(sql) > MIGRATION_EVENT_LIMIT)
                return err_field(err, "sql",
                                 "sql has more than %d bytes: a migrator reads larger files from TENANT_MIGRATIONS",
                                 MIGRATION_EVENT_LIMIT);
        if (migration_parse(json_text(data, "name"), sql, strlen(sql), &migration, err) < 0)
                return -ERR_INPUT;
        migration_release(&migration);
        return 0;
}

json_t *migration_file_facts(const struct migration *migration)
{
        struct migration_findings findings;
        json_t *facts;

        migration_lint(migration, &findings);
        facts = json_pack("{s:s, s:s, s:s?, s:s, s:s, s:b, s:b, s:o}", "name", migration->name, "sql", migration->text,
                          "verify", migration->verify, "version", migration->version, "checksum", migration->checksum,
                          "transaction", migration->up.transaction && migration->down.transaction, "reversible",
                          migration_is_reversible(migration), "findings", migration_findings_json(&findings));
        migration_findings_release(&findings);
        return facts;
}

static int migration_complete_file(json_t *data, struct err *err)
{
        const char *sql = json_text(data, "sql");
        auto_json *facts = NULL;
        struct migration migration;

        if (migration_parse(json_text(data, "name"), sql, strlen(sql), &migration, err) < 0)
                return -ERR_INPUT;
        facts = migration_file_facts(&migration);
        json_object_update_missing(data, facts);
        migration_release(&migration);
        return 0;
}

static int migration_check_members(const json_t *data, struct err *err)
{
        if (json_object_get(data, "labels") != NULL && json_object_get(data, "tenants") != NULL)
                return err_field(err, "tenants", "name labels or tenants, not both");
        return 0;
}

/* A check of nobody has nobody whose result could end it. */
static int migration_check_drift(const json_t *data, struct err *err)
{
        static const char *const lists[] = { "labels", "tenants" };
        const json_t *list;

        for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
                list = json_object_get(data, lists[i]);
                if (list != NULL && json_array_size(list) == 0)
                        return err_field(err, lists[i], "%s is empty: leave it out to mean everybody", lists[i]);
        }
        return migration_check_members(data, err);
}

/* What contradicts itself whatever the fleet is. */
static int migration_check_run(const json_t *data, struct err *err)
{
        const char *strategy = json_text(data, "strategy");
        bool has_waves = json_object_get(data, "waves") != NULL,
             wants_waves = strategy && strcmp(strategy, "waves") == 0;
        double percent = 0;
        json_t *wave;
        size_t i;

        if (has_waves != wants_waves)
                return err_field(err, "waves", "waves go with the strategy \"waves\", and only with that one");
        json_array_foreach (json_object_get(data, "waves"), i, wave) {
                double next = json_number_value(json_object_get(wave, "percent"));

                if (json_object_size(wave) != 1)
                        return err_field(err, "waves", "a wave has one of percent, count, labels and plan");
                if (next > 0 && next <= percent)
                        return err_field(err, "waves", "percentages must rise: %g follows %g", next, percent);
                percent = next > 0 ? next : percent;
        }
        if (has_waves && percent != 100)
                return err_field(err, "waves", "the last percentage must be 100: nobody is left out");
        if (has_waves &&
            json_number_value(json_object_get(json_array_get(json_object_get(data, "waves"), i - 1), "percent")) != 100)
                return err_field(err, "waves", "the last wave must be 100 percent");
        if (json_object_get(data, "canary") != NULL && (strategy == NULL || strcmp(strategy, "canary") != 0))
                return err_field(err, "canary", "canary goes with the strategy \"canary\", and only with that one");
        return migration_check_members(data, err);
}

/* The catalog reckons in milliseconds. */
static int migration_complete_run(json_t *data, struct err *err)
{
        static const char *const names[] = { "soak", "lock_timeout", "statement_timeout" };

        (void)err;
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                const char *text = json_text(data, names[i]);
                auto_free char *name = mem_printf("%s_ms", names[i]);
                int64_t ms;

                if (text != NULL && duration_parse(names[i], text, &ms, NULL) == 0)
                        json_object_set_new(data, name, json_integer(ms));
        }
        return 0;
}

#define RUN_COMMAND(command, list)                                                                                     \
        {                                                                                                              \
                .type = "migration." command ".requested.v1", .topic = MIGRATION_TOPIC, .key = RUN_KEY,                \
                .fields = list, .count = ARRAY_SIZE(list)                                                              \
        }

const struct contract MIGRATION_CONTRACTS[] = {
        { .type = "migration.register.requested.v1",
          .topic = MIGRATION_TOPIC,
          .key = FILE_KEY,
          .fields = REGISTER,
          .count = ARRAY_SIZE(REGISTER),
          .check = migration_check_file,
          .complete = migration_complete_file },
        { .type = "migration.withdraw.requested.v1",
          .topic = MIGRATION_TOPIC,
          .key = FILE_KEY,
          .fields = WITHDRAW,
          .count = ARRAY_SIZE(WITHDRAW),
          .check = migration_check_name },
        { .type = "migration.run.requested.v1",
          .topic = MIGRATION_TOPIC,
          .key = RUN_KEY,
          .fields = RUN,
          .count = ARRAY_SIZE(RUN),
          .check = migration_check_run,
          .complete = migration_complete_run },
        RUN_COMMAND("pause", COMMAND),
        RUN_COMMAND("resume", COMMAND),
        RUN_COMMAND("promote", COMMAND),
        RUN_COMMAND("halt", COMMAND),
        RUN_COMMAND("rollback", COMMAND),
        RUN_COMMAND("cancel", COMMAND),
        RUN_COMMAND("retry", RETRY),
        RUN_COMMAND("mark", MARK),
        RUN_COMMAND("signal", SIGNAL),
        { .type = "migration.drift.requested.v1",
          .topic = MIGRATION_TOPIC,
          .key = CHECK_KEY,
          .fields = DRIFT,
          .count = ARRAY_SIZE(DRIFT),
          .check = migration_check_drift },
        { .type = NULL },
};
