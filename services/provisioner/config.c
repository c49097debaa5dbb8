/* The provisioner's options: see config.h. */
#include "services/provisioner/config.h"

#include "common/base/json.h"
#include "common/base/keyring.h"
#include "common/migration/migration.h"
#include "common/pg/pg.h"

#include <string.h>

#define AT(field) offsetof(struct provisioner_config, field)

static const struct config_option OPTIONS[] = {
        { "TENANT_DRIVER", CONFIG_TEXT, 0, "postgres",
          "Where new tenants live: postgres (servers you own) or supabase.", AT(driver), 0, 0 },
        { "TENANT_SERVERS", CONFIG_TEXT, CONFIG_SECRET, NULL,
          "Servers of the postgres driver, a JSON list of {name, admin_url, tenant_host, tenant_port, capacity, "
          "region?}.",
          AT(servers), 0, 0 },
        { "CONTROL_KEYS", CONFIG_TEXT, CONFIG_REQUIRED | CONFIG_SECRET, NULL,
          "Key ring for what only the control plane may read: ID:BASE64 with commas, the first one seals.",
          AT(control_keys), 0, 0 },
        { "APP_KEYS", CONFIG_TEXT, CONFIG_REQUIRED | CONFIG_SECRET, NULL,
          "Key ring for what the product's backend may read; the gateway has it too.", AT(app_keys), 0, 0 },
        { "TENANT_MIGRATIONS", CONFIG_TEXT, CONFIG_REQUIRED, NULL,
          "Directory of the product's migrations in dbmate's format.", AT(migrations), 0, 0 },
        { "TENANT_SSLMODE", CONFIG_TEXT, 0, NULL,
          "libpq's sslmode for connections to tenants' databases. Not set: prefer on own servers, require on Supabase; "
          "verify-full (with PGSSLROOTCERT) is best.",
          AT(tenant_sslmode), 0, 0 },
        { "PUBLIC_URL", CONFIG_TEXT, CONFIG_REQUIRED, NULL,
          "How people reach the gateway; invitation links begin with it.", AT(public_url), 0, 0 },
        { "PRODUCT_URL", CONFIG_TEXT, CONFIG_REQUIRED, NULL,
          "Where an invited person ends up, such as https://{slug}.example.com; {slug} is the tenant's subdomain.",
          AT(product_url), 0, 0 },
        { "WORKERS", CONFIG_INTEGER, 0, "8", "Sagas in hand at once.", AT(workers), 1, 500 },
        { "APP_CONNECTIONS", CONFIG_INTEGER, 0, "20", "Connection limit of a tenant's app login.", AT(app_connections),
          1, 1000 },
        { "ROTATION_OVERLAP", CONFIG_DURATION, 0, "5m", "How long the old app login goes on working after a rotation.",
          AT(rotation_overlap_ms), 0, 30 * MINUTES(24 * 60) },
        { "SMTP_URL", CONFIG_TEXT, 0, NULL, "Mail server, smtp://host:port or smtps://host:port.", AT(smtp_url), 0, 0 },
        { "SMTP_USER", CONFIG_TEXT, 0, NULL, "Login at the mail server; then TLS is demanded.", AT(smtp_user), 0, 0 },
        { "SMTP_PASSWORD", CONFIG_TEXT, CONFIG_SECRET, NULL, "Its password.", AT(smtp_password), 0, 0 },
        { "SMTP_CA", CONFIG_TEXT, 0, NULL,
          "File with the certificate authority of the mail server, PEM; then TLS is demanded. Not set: the system's.",
          AT(smtp_ca), 0, 0 },
        { "MAIL_DIRECTORY", CONFIG_TEXT, 0, NULL, "Where mails are written as .eml files when SMTP_URL is not set.",
          AT(mail_directory), 0, 0 },
        { "MAIL_FROM", CONFIG_TEXT, CONFIG_REQUIRED, NULL, "Sender of mails: an address of yours.", AT(mail_from), 0,
          0 },
        { "ARCHIVE_DIRECTORY", CONFIG_TEXT, CONFIG_REQUIRED, NULL, "Where encrypted backups and archives are written.",
          AT(archive_directory), 0, 0 },
        { "ARCHIVE_CHECK_INTERVAL", CONFIG_DURATION, 0, "0s",
          "How often the janitor has a tenant's newest backup restored, to prove that it can be, into a database that "
          "is "
          "dropped again; the tenants take turns. 0s: never.",
          AT(archive_check_interval_ms), 0, 366 * MINUTES(24 * 60) },
        { "JANITOR_INTERVAL", CONFIG_DURATION, 0, "5m", "How often the provider is compared with the catalog.",
          AT(janitor_interval_ms), SECONDS(1), MINUTES(24 * 60) },
        { "ALERT_WEBHOOK", CONFIG_TEXT, CONFIG_SECRET, NULL, "Where alerts are posted as JSON.", AT(alert_webhook), 0,
          0 },
        { "ALERT_MAIL", CONFIG_TEXT, 0, NULL, "Where alerts are mailed.", AT(alert_mail), 0, 0 },
        { "SUPABASE_API_URL", CONFIG_TEXT, 0, "https://api.supabase.com", "Supabase Management API.",
          AT(supabase_api_url), 0, 0 },
        { "SUPABASE_AUTH_URL", CONFIG_TEXT, 0, "https://{ref}.supabase.co/auth/v1", "Auth API of a project.",
          AT(supabase_auth_url), 0, 0 },
        { "SUPABASE_ACCESS_TOKEN", CONFIG_TEXT, CONFIG_SECRET, NULL, "Personal access token of the Management API.",
          AT(supabase_token), 0, 0 },
        { "SUPABASE_ORGANIZATION", CONFIG_TEXT, 0, NULL, "Slug of the organization that projects are made in.",
          AT(supabase_organization), 0, 0 },
        { "SUPABASE_REGION_GROUP", CONFIG_TEXT, 0, "americas",
          "Region group for tenants that ask for no region: americas, emea or apac.", AT(supabase_region_group), 0, 0 },
        { "SUPABASE_PROJECT_PREFIX", CONFIG_TEXT, 0, "tenantry",
          "Project names begin with it; the janitor looks for it.", AT(supabase_prefix), 0, 0 },
        { "SUPABASE_SESSION_PORT", CONFIG_INTEGER, 0, "5432", "Port of the pooler's session mode.",
          AT(supabase_session_port), 1, 65535 },
        { "SUPABASE_REQUESTS_PER_MINUTE", CONFIG_INTEGER, 0, "110",
          "Own limit per endpoint, kept below Supabase's 120 a minute.", AT(supabase_rate), 1, 100000 },
        { "SUPABASE_POLL", CONFIG_DURATION, 0, "5s", "How often a project that comes up is looked at.",
          AT(supabase_poll_ms), 100, MINUTES(10) },
        { "SUPABASE_READY_TIMEOUT", CONFIG_DURATION, 0, "15m",
          "A project that is not ready by then is put in quarantine and replaced.", AT(supabase_ready_ms), SECONDS(1),
          MINUTES(24 * 60) },
};

const struct config_table PROVISIONER_OPTIONS = { OPTIONS, ARRAY_SIZE(OPTIONS) };

static int check_ring(const char *name, const char *text, struct err *err)
{
        struct keyring *ring = NULL;
        int rc = keyring_parse(name, text, &ring, err);

        keyring_free(ring);
        return rc;
}

static bool is_named_before(const json_t *servers, size_t which)
{
        const char *name = json_text(json_array_get(servers, which), "name");

        for (size_t i = 0; i < which; i++)
                if (strcmp(json_text(json_array_get(servers, i), "name"), name) == 0)
                        return true;
        return false;
}

/* Whatever the driver of new tenants: there may be older ones on servers. */
static int check_servers(const struct provisioner_config *config, struct err *err)
{
        static const char *const needed[] = { "name", "admin_url", "tenant_host", "tenant_port" };
        auto_json *servers = NULL;
        json_t *server;
        size_t i;

        if (config->servers == NULL && strcmp(config->driver, "postgres") == 0)
                return err_field(err, "TENANT_SERVERS", "TENANT_DRIVER=postgres needs TENANT_SERVERS");
        if (config->servers == NULL)
                return 0;
        if (json_parse(config->servers, strlen(config->servers), &servers, NULL) < 0 || json_array_size(servers) == 0)
                return err_field(err, "TENANT_SERVERS", "TENANT_SERVERS is not a JSON list with at least one server");
        json_array_foreach (servers, i, server) {
                for (size_t k = 0; k < ARRAY_SIZE(needed); k++)
                        if (json_text(server, needed[k]) == NULL)
                                return err_field(err, "TENANT_SERVERS", "TENANT_SERVERS: server %zu has no text \"%s\"",
                                                 i + 1, needed[k]);
                if (!pg_is_url(json_text(server, "admin_url")))
                        return err_field(err, "TENANT_SERVERS",
                                         "TENANT_SERVERS: admin_url of server %zu is not a PostgreSQL URL", i + 1);
                if (is_named_before(servers, i))
                        return err_field(err, "TENANT_SERVERS", "TENANT_SERVERS: there are two servers \"%.60s\"",
                                         json_text(server, "name"));
                if (json_number(server, "capacity", -1) < 0)
                        return err_field(err, "TENANT_SERVERS",
                                         "TENANT_SERVERS: server %zu has no capacity (0 = it takes no new tenants)",
                                         i + 1);
        }
        return 0;
}

static int check_mail_server(const char *url, struct err *err)
{
        if (url == NULL || strncmp(url, "smtp://", 7) == 0 || strncmp(url, "smtps://", 8) == 0)
                return 0;
        return err_field(err, "SMTP_URL", "SMTP_URL is not a URL that begins with smtp:// or smtps://");
}

static int check_places(const struct provisioner_config *config, struct err *err)
{
        int rc = config_check_url("PUBLIC_URL", config->public_url, err);

        if (rc == 0)
                rc = config_check_url("PRODUCT_URL", config->product_url, err);
        if (rc == 0)
                rc = config_check_url("SUPABASE_API_URL", config->supabase_api_url, err);
        if (rc == 0)
                rc = config_check_url("SUPABASE_AUTH_URL", config->supabase_auth_url, err);
        if (rc == 0)
                rc = config_check_url("ALERT_WEBHOOK", config->alert_webhook, err);
        if (rc == 0)
                rc = config_check_choice("SUPABASE_REGION_GROUP", config->supabase_region_group, "americas|emea|apac",
                                         err);
        if (rc == 0)
                rc = config_check_choice("TENANT_SSLMODE", config->tenant_sslmode,
                                         "disable|allow|prefer|require|verify-ca|verify-full", err);
        if (rc == 0)
                rc = check_mail_server(config->smtp_url, err);
        if (rc == 0)
                rc = config_check_directory("ARCHIVE_DIRECTORY", config->archive_directory, err);
        if (rc == 0)
                rc = config_check_directory("MAIL_DIRECTORY", config->mail_directory, err);
        if (rc == 0)
                rc = config_check_file("SMTP_CA", config->smtp_ca, err);
        if (rc == 0)
                rc = config_check_directory("TENANT_MIGRATIONS", config->migrations, err);
        return rc;
}

static int check_migrations(const char *directory, struct err *err)
{
        struct migration_set *set = NULL;
        struct err bad;

        if (migration_set_load(directory, &set, &bad) < 0)
                return err_field(err, "TENANT_MIGRATIONS", "TENANT_MIGRATIONS: %s", bad.message);
        migration_set_free(set);
        return 0;
}

int provisioner_config_check(const void *given, struct err *err)
{
        const struct provisioner_config *config = given;
        int rc = check_ring("CONTROL_KEYS", config->control_keys, err);

        if (rc == 0)
                rc = check_ring("APP_KEYS", config->app_keys, err);
        if (rc == 0)
                rc = check_places(config, err);
        if (rc == 0)
                rc = check_migrations(config->migrations, err);
        if (rc == 0)
                rc = check_servers(config, err);
        if (rc < 0)
                return rc;
        if (config->smtp_url == NULL && config->mail_directory == NULL)
                return err_field(err, "SMTP_URL", "set SMTP_URL, or MAIL_DIRECTORY to have mails written as files");
        if (strcmp(config->driver, "postgres") == 0)
                return 0;
        if (strcmp(config->driver, "supabase") != 0)
                return err_field(err, "TENANT_DRIVER", "TENANT_DRIVER must be postgres or supabase");
        if (config->supabase_token == NULL)
                return err_field(err, "SUPABASE_ACCESS_TOKEN", "TENANT_DRIVER=supabase needs SUPABASE_ACCESS_TOKEN");
        if (config->supabase_organization == NULL)
                return err_field(err, "SUPABASE_ORGANIZATION", "TENANT_DRIVER=supabase needs SUPABASE_ORGANIZATION");
        return 0;
}
