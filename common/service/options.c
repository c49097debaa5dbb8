/* Options shared by several services: see options.h. */
#include "common/service/options.h"

#include "common/service/service.h"

#include "common/base/memory.h"
#include "common/net/stripe_api.h"
#include "common/pg/pg.h"

#include <string.h>

#define AT(field) offsetof(struct service_config, field)

static const struct config_option SERVICE[] = {
        { "LOG_LEVEL", CONFIG_TEXT, 0, "info", "Lowest level to log: debug, info, warn or error.", AT(log_level), 0,
          0 },
        { "OPS_ADDRESS", CONFIG_TEXT, 0, "127.0.0.1", "Address of /healthz, /readyz and /metrics.", AT(ops_address), 0,
          0 },
        { "OPS_PORT", CONFIG_INTEGER, CONFIG_REQUIRED, NULL, "Port of /healthz, /readyz and /metrics.", AT(ops_port), 1,
          65535 },
        { "SANDBOX", CONFIG_BOOL, 0, "0", "Allows failpoints and a movable business clock. Never set it in production.",
          AT(sandbox), 0, 0 },
        { "FAILPOINTS", CONFIG_TEXT, 0, NULL, "Arms failpoints (see --failpoints); needs SANDBOX=1.", AT(failpoints), 0,
          0 },
        { "KAFKA_BROKERS", CONFIG_TEXT, CONFIG_REQUIRED, NULL,
          "Kafka bootstrap servers, host:port, separated by commas.", AT(kafka_brokers), 0, 0 },
        { "KAFKA_PROPERTIES", CONFIG_TEXT, CONFIG_SECRET, NULL,
          "More librdkafka properties, name=value separated by semicolons: TLS and SASL go here. A semicolon inside a "
          "value is written \\;.",
          AT(kafka_properties), 0, 0 },
        { "CATALOG_DATABASE_URL", CONFIG_TEXT, CONFIG_REQUIRED | CONFIG_SECRET, NULL,
          "URL of the catalog: a direct or session-mode connection with this service's own login.", AT(catalog_url), 0,
          0 },
        { "CATALOG_POOL_SIZE", CONFIG_INTEGER, 0, "4", "Connections to the catalog.", AT(catalog_pool_size), 1, 100 },
        { "LEASE", CONFIG_DURATION, 0, "30s",
          "How long the work of a process that no longer responds stays reserved for it.", AT(lease_ms), SECONDS(2),
          MINUTES(60) },
};

static int options_check_service(const void *part, struct err *err)
{
        const struct service_config *config = part;
        int rc = config_check_choice("LOG_LEVEL", config->log_level, "debug|info|warn|error", err);

        if (rc == 0)
                rc = config_check_address("OPS_ADDRESS", config->ops_address, err);
        if (rc == 0 && config->failpoints != NULL && !config->sandbox)
                rc = err_field(err, "FAILPOINTS", "FAILPOINTS needs SANDBOX=1");
        if (rc == 0 && !pg_is_url(config->catalog_url))
                rc = err_field(err, "CATALOG_DATABASE_URL", "CATALOG_DATABASE_URL is not a PostgreSQL URL");
        return rc;
}

const struct config_table SERVICE_OPTIONS = { .options = SERVICE,
                                              .count = ARRAY_SIZE(SERVICE),
                                              .check = options_check_service };

#undef AT
#define AT(field) offsetof(struct key_config, field)

static const struct config_option APP_KEYS[] = {
        { "APP_KEYS", CONFIG_TEXT, CONFIG_REQUIRED | CONFIG_SECRET, NULL,
          "Key ring for secrets that the product's backend may read: ID:BASE64, separated by commas; the first one "
          "seals. Gateway, provisioner and billing have the same.",
          AT(app_keys), 0, 0 },
};

static const struct config_option CONTROL_KEYS[] = {
        { "CONTROL_KEYS", CONFIG_TEXT, CONFIG_REQUIRED | CONFIG_SECRET, NULL,
          "Key ring for secrets that only the control plane may read: ID:BASE64, separated by commas; the first one "
          "seals.",
          AT(control_keys), 0, 0 },
};

static int options_check_ring(const char *name, const char *text, struct err *err)
{
        struct keyring *ring = NULL;
        int rc = keyring_parse(name, text, &ring, err);

        keyring_free(ring);
        return rc;
}

static int options_check_app_keys(const void *part, struct err *err)
{
        return options_check_ring("APP_KEYS", ((const struct key_config *)part)->app_keys, err);
}

static int options_check_control_keys(const void *part, struct err *err)
{
        return options_check_ring("CONTROL_KEYS", ((const struct key_config *)part)->control_keys, err);
}

const struct config_table APP_KEY_OPTIONS = { .options = APP_KEYS,
                                              .count = ARRAY_SIZE(APP_KEYS),
                                              .check = options_check_app_keys };

const struct config_table CONTROL_KEY_OPTIONS = { .options = CONTROL_KEYS,
                                                  .count = ARRAY_SIZE(CONTROL_KEYS),
                                                  .check = options_check_control_keys };

#undef AT
#define AT(field) offsetof(struct link_config, field)

static const struct config_option LINKS[] = {
        { "PUBLIC_URL", CONFIG_TEXT, CONFIG_REQUIRED, NULL,
          "The address at which people reach the gateway; invitation links begin with it.", AT(public_url), 0, 0 },
        { "PRODUCT_URL", CONFIG_TEXT, CONFIG_REQUIRED, NULL,
          "Where an invited person is sent, such as https://{slug}.example.com; {slug} is the tenant's subdomain.",
          AT(product_url), 0, 0 },
};

static int options_check_links(const void *part, struct err *err)
{
        const struct link_config *config = part;
        int rc = config_check_url("PUBLIC_URL", config->public_url, err);

        if (rc == 0)
                rc = config_check_url("PRODUCT_URL", config->product_url, err);
        return rc;
}

const struct config_table LINK_OPTIONS = { .options = LINKS, .count = ARRAY_SIZE(LINKS), .check = options_check_links };

#undef AT
#define AT(field) offsetof(struct mail_config, field)

static const struct config_option MAIL[] = {
        { "SMTP_URL", CONFIG_TEXT, 0, NULL, "Mail server, smtp://host:port or smtps://host:port.", AT(smtp_url), 0, 0 },
        { "SMTP_USER", CONFIG_TEXT, 0, NULL, "Login at the mail server; if set, TLS is required.", AT(smtp_user), 0,
          0 },
        { "SMTP_PASSWORD", CONFIG_TEXT, CONFIG_SECRET, NULL, "Its password.", AT(smtp_password), 0, 0 },
        { "SMTP_CA", CONFIG_TEXT, 0, NULL,
          "PEM file with the certificate authority of the mail server; if set, TLS is required. Not set: the system's.",
          AT(smtp_ca), 0, 0 },
        { "MAIL_DIRECTORY", CONFIG_TEXT, 0, NULL, "Where mails are written as .eml files if SMTP_URL is not set.",
          AT(directory), 0, 0 },
        { "MAIL_FROM", CONFIG_TEXT, CONFIG_REQUIRED, NULL, "Sender of mails: one of your addresses.", AT(from), 0, 0 },
        { "MAIL_TEMPLATES", CONFIG_TEXT, 0, NULL,
          "Directory with your own words for mails: invitation.txt and invitation.html, and so on (tenantry mail "
          "preview lists all). Where it has none, ours are used.",
          AT(templates), 0, 0 },
};

static int options_check_mail(const void *part, struct err *err)
{
        const struct mail_config *config = part;
        const char *url = config->smtp_url;
        int rc = 0;

        if (url != NULL && strncmp(url, "smtp://", 7) != 0 && strncmp(url, "smtps://", 8) != 0)
                rc = err_field(err, "SMTP_URL", "SMTP_URL is not a URL that begins with smtp:// or smtps://");
        if (rc == 0)
                rc = config_check_directory("MAIL_DIRECTORY", config->directory, err);
        if (rc == 0)
                rc = config_check_file("SMTP_CA", config->smtp_ca, err);
        if (rc == 0)
                rc = config_check_directory("MAIL_TEMPLATES", config->templates, err);
        if (rc == 0 && url == NULL && config->directory == NULL)
                rc = err_field(err, "SMTP_URL", "set SMTP_URL, or MAIL_DIRECTORY to have mails written as files");
        return rc;
}

const struct config_table MAIL_OPTIONS = { .options = MAIL, .count = ARRAY_SIZE(MAIL), .check = options_check_mail };

struct mailer *mail_config_mailer(const struct mail_config *config, uv_loop_t *loop, size_t limit)
{
        struct mail_settings settings = {
                .smtp_url = config->smtp_url,
                .user = config->smtp_user,
                .password = config->smtp_password,
                .ca = config->smtp_ca,
                .directory = config->directory,
                .from = config->from,
        };

        return mailer_new(loop, &settings, limit);
}

#undef AT
#define AT(field) offsetof(struct alert_config, field)

static const struct config_option ALERTS[] = {
        { "ALERT_WEBHOOK", CONFIG_TEXT, CONFIG_SECRET, NULL, "Where alerts are posted as JSON.", AT(webhook), 0, 0 },
        { "ALERT_MAIL", CONFIG_TEXT, 0, NULL, "Where alerts are mailed.", AT(mail), 0, 0 },
};

static int options_check_alerts(const void *part, struct err *err)
{
        return config_check_url("ALERT_WEBHOOK", ((const struct alert_config *)part)->webhook, err);
}

const struct config_table ALERT_OPTIONS = { .options = ALERTS,
                                            .count = ARRAY_SIZE(ALERTS),
                                            .check = options_check_alerts };

#undef AT
#define AT(field) offsetof(struct stripe_config, field)

static const struct config_option STRIPE[] = {
        { "STRIPE_SECRET_KEY", CONFIG_TEXT, CONFIG_SECRET, NULL,
          "Key of Stripe's API: a restricted one (rk_test_..., rk_live_...) with the rights listed in "
          "docs/security.md, "
          "or a secret one (sk_test_..., sk_live_...).",
          AT(secret_key), 0, 0 },
        { "STRIPE_API_URL", CONFIG_TEXT, 0, STRIPE_API_URL, "Where Stripe's API is: Stripe, or a stand-in for it.",
          AT(api_url), 0, 0 },
};

static bool options_begin(const char *text, const char *beginning)
{
        return strncmp(text, beginning, strlen(beginning)) == 0;
}

bool stripe_config_is_live(const struct stripe_config *config)
{
        return config->secret_key != NULL &&
               (options_begin(config->secret_key, "sk_live_") || options_begin(config->secret_key, "rk_live_"));
}

/* What it may be instead is said, but nothing of the key itself. */
static const char *options_doubt_stripe_key(const char *key)
{
        if (options_begin(key, "pk_"))
                return "STRIPE_SECRET_KEY is a publishable key (pk_): take the secret or a restricted one (sk_, rk_)";
        if (options_begin(key, "whsec_"))
                return "STRIPE_SECRET_KEY is the secret of a webhook endpoint (whsec_), which belongs into "
                       "STRIPE_WEBHOOK_SECRET";
        if (!options_begin(key, "sk_test_") && !options_begin(key, "rk_test_") && !options_begin(key, "sk_live_") &&
            !options_begin(key, "rk_live_"))
                return "STRIPE_SECRET_KEY is neither a secret nor a restricted key of Stripe's: one begins with "
                       "sk_test_, rk_test_, sk_live_ or rk_live_";
        for (const char *p = key; *p; p++) /* it becomes part of a header */
                if (*p <= ' ' || *p >= 0x7f)
                        return "STRIPE_SECRET_KEY has a blank or another character that no key has";
        return NULL;
}

static int options_check_sandbox(bool *ret, struct err *err)
{
        const struct config_option option = { .name = "SANDBOX", .type = CONFIG_BOOL };
        auto_free char *text = NULL;
        int rc = config_read("SANDBOX", &text, err);

        *ret = false;
        return rc < 0 || text == NULL ? rc : config_parse(&option, text, ret, err);
}

/* A sandbox's clock can be moved, and its failpoints break what they like: not where money is. */
static int options_check_live_stripe(const struct stripe_config *config, struct err *err)
{
        bool sandbox;
        int rc = options_check_sandbox(&sandbox, err);

        if (rc == 0 && sandbox)
                return err_field(err, "STRIPE_SECRET_KEY",
                                 "STRIPE_SECRET_KEY is a key of live mode, which does not go with SANDBOX=1");
        if (rc == 0 && !options_begin(config->api_url, "https://"))
                return err_field(err, "STRIPE_API_URL", "STRIPE_API_URL must begin with https:// for a live key");
        return rc;
}

static int options_check_stripe(const void *part, struct err *err)
{
        const struct stripe_config *config = part;
        const char *doubt = config->secret_key ? options_doubt_stripe_key(config->secret_key) : NULL;
        int rc = config_check_url("STRIPE_API_URL", config->api_url, err);

        if (rc == 0 && config->api_url[strlen(config->api_url) - 1] == '/')
                rc = err_field(err, "STRIPE_API_URL", "STRIPE_API_URL must not end with a slash");
        if (rc == 0 && doubt != NULL)
                rc = err_field(err, "STRIPE_SECRET_KEY", "%s", doubt);
        return rc == 0 && stripe_config_is_live(config) ? options_check_live_stripe(config, err) : rc;
}

const struct config_table STRIPE_OPTIONS = { .options = STRIPE,
                                             .count = ARRAY_SIZE(STRIPE),
                                             .check = options_check_stripe };
