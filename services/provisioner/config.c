/* The provisioner's options: see config.h. */
#include "services/provisioner/config.h"

#include "common/contracts/mails.h"
#include "common/migration/migration.h"

#include <string.h>

#define AT(field) offsetof(struct provisioner_config, field)

static const struct config_option OPTIONS[] = {
        { "TENANT_DRIVER", CONFIG_TEXT, 0, "postgres",
          "Where new tenants live: postgres (servers you own) or supabase.", AT(driver), 0, 0 },
        { "TENANT_MIGRATIONS", CONFIG_TEXT, CONFIG_REQUIRED, NULL,
          "Directory of the product's migrations in dbmate's format.", AT(migrations), 0, 0 },
        { "WORKERS", CONFIG_INTEGER, 0, "8", "How many sagas are worked on at once.", AT(workers), 1, 500 },
        { "APP_CONNECTIONS", CONFIG_INTEGER, 0, "20", "Connection limit of a tenant's app login.", AT(app_connections),
          1, 1000 },
        { "ROTATION_OVERLAP", CONFIG_DURATION, 0, "5m", "How long the old app login keeps working after a rotation.",
          AT(rotation_overlap_ms), 0, 30 * MINUTES(24 * 60) },
        { "ARCHIVE_DIRECTORY", CONFIG_TEXT, CONFIG_REQUIRED, NULL, "Where encrypted backups and archives are written.",
          AT(archive_directory), 0, 0 },
        { "ARCHIVE_CHECK_INTERVAL", CONFIG_DURATION, 0, "0s",
          "How often the janitor proves a tenant's newest backup by restoring it into a database that is dropped "
          "again; the tenants take turns. 0s: never.",
          AT(archive_check_interval_ms), 0, 366 * MINUTES(24 * 60) },
        { "JANITOR_INTERVAL", CONFIG_DURATION, 0, "5m", "How often the provider is compared with the catalog.",
          AT(janitor_interval_ms), SECONDS(1), MINUTES(24 * 60) },
        { "SUPABASE_API_URL", CONFIG_TEXT, 0, "https://api.supabase.com", "Supabase Management API.",
          AT(supabase_api_url), 0, 0 },
        { "SUPABASE_AUTH_URL", CONFIG_TEXT, 0, "https://{ref}.supabase.co/auth/v1", "Auth API of a project.",
          AT(supabase_auth_url), 0, 0 },
        { "SUPABASE_ACCESS_TOKEN", CONFIG_TEXT, CONFIG_SECRET, NULL, "Personal access token of the Management API.",
          AT(supabase_token), 0, 0 },
        { "SUPABASE_ORGANIZATION", CONFIG_TEXT, 0, NULL, "Slug of the organization in which projects are created.",
          AT(supabase_organization), 0, 0 },
        { "SUPABASE_REGION_GROUP", CONFIG_TEXT, 0, "americas",
          "Region group for tenants that request no region: americas, emea or apac.", AT(supabase_region_group), 0, 0 },
        { "SUPABASE_PROJECT_PREFIX", CONFIG_TEXT, 0, "tenantry",
          "Prefix of project names, by which the janitor finds them.", AT(supabase_prefix), 0, 0 },
        { "SUPABASE_SESSION_PORT", CONFIG_INTEGER, 0, "5432", "Port of the pooler's session mode.",
          AT(supabase_session_port), 1, 65535 },
        { "SUPABASE_REQUESTS_PER_MINUTE", CONFIG_INTEGER, 0, "110",
          "Own limit per endpoint, kept below Supabase's 120 a minute.", AT(supabase_rate), 1, 100000 },
        { "SUPABASE_POLL", CONFIG_DURATION, 0, "5s", "How often a project that is starting up is checked.",
          AT(supabase_poll_ms), 100, MINUTES(10) },
        { "SUPABASE_READY_TIMEOUT", CONFIG_DURATION, 0, "15m",
          "A project that is not ready by then is put in quarantine and replaced.", AT(supabase_ready_ms), SECONDS(1),
          MINUTES(24 * 60) },
};

static int config_check_places(const struct provisioner_config *config, struct err *err)
{
        int rc = config_check_url("SUPABASE_API_URL", config->supabase_api_url, err);

        if (rc == 0)
                rc = config_check_url("SUPABASE_AUTH_URL", config->supabase_auth_url, err);
        if (rc == 0)
                rc = config_check_choice("SUPABASE_REGION_GROUP", config->supabase_region_group, "americas|emea|apac",
                                         err);
        if (rc == 0)
                rc = config_check_directory("ARCHIVE_DIRECTORY", config->archive_directory, err);
        if (rc == 0)
                rc = config_check_directory("TENANT_MIGRATIONS", config->migrations, err);
        return rc;
}

static int config_check_migrations(const char *directory, struct err *err)
{
        struct migration_set *set = NULL;
        struct err bad;

        if (migration_set_load(directory, &set, &bad) < 0)
                return err_field(err, "TENANT_MIGRATIONS", "TENANT_MIGRATIONS: %s", bad.message);
        migration_set_free(set);
        return 0;
}

static int config_check(const void *part, struct err *err)
{
        const struct provisioner_config *config = part;
        int rc = config_check_places(config, err);

        if (rc == 0)
                rc = config_check_migrations(config->migrations, err);
        if (rc == 0)
                rc = mails_check_templates((const struct mail_kind *const[]){ &MAIL_INVITATION, NULL },
                                           config->mail.templates, err);
        if (rc == 0 && config->tenants.servers == NULL && strcmp(config->driver, "postgres") == 0)
                rc = err_field(err, "TENANT_SERVERS", "TENANT_DRIVER=postgres needs TENANT_SERVERS");
        if (rc < 0 || strcmp(config->driver, "postgres") == 0)
                return rc;
        if (strcmp(config->driver, "supabase") != 0)
                return err_field(err, "TENANT_DRIVER", "TENANT_DRIVER must be postgres or supabase");
        if (config->supabase_token == NULL)
                return err_field(err, "SUPABASE_ACCESS_TOKEN", "TENANT_DRIVER=supabase needs SUPABASE_ACCESS_TOKEN");
        if (config->supabase_organization == NULL)
                return err_field(err, "SUPABASE_ORGANIZATION", "TENANT_DRIVER=supabase needs SUPABASE_ORGANIZATION");
        return 0;
}

const struct config_table PROVISIONER_OPTIONS = { .options = OPTIONS,
                                                  .count = ARRAY_SIZE(OPTIONS),
                                                  .check = config_check };
