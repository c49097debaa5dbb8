/* The gateway's options: see config.h. */
#include "services/gateway/config.h"

#include "common/contracts/stripe_signature.h"
#include "common/net/proxies.h"
#include "services/gateway/tokens.h"

#define AT(field) offsetof(struct gateway_config, field)

static const struct config_option OPTIONS[] = {
        { "HTTP_ADDRESS", CONFIG_TEXT, 0, "127.0.0.1", "Address of the API.", AT(address), 0, 0 },
        { "HTTP_PORT", CONFIG_INTEGER, CONFIG_REQUIRED, NULL, "Port of the API.", AT(port), 1, 65535 },
        { "TOKENS", CONFIG_TEXT, CONFIG_REQUIRED, NULL,
          "File of bearer tokens, one per line: name, scopes separated by commas (" SCOPE_NAMES "), "
          "SHA-256 of the token. Read again when it changes.",
          AT(tokens), 0, 0 },
        { "PUBLIC_SIGNUP", CONFIG_BOOL, 0, "0", "Takes signups without a token, limited by the two options below.",
          AT(public_signup), 0, 0 },
        { "PUBLIC_SIGNUPS_PER_HOUR", CONFIG_INTEGER, 0, "10", "Public signups per hour from one address.",
          AT(public_signup_per_hour), 1, 1000000 },
        { "SIGNUPS_IN_PROGRESS", CONFIG_INTEGER, 0, "1000",
          "Public signups are refused (503) while this many tenants are not ready yet.", AT(signups_in_progress), 1,
          1000000 },
        { "MESSAGE_TIMEOUT", CONFIG_DURATION, 0, "10s",
          "A request that Kafka has not taken by then is answered with 503.", AT(message_timeout_ms), SECONDS(1),
          MINUTES(5) },
        { "MAX_WAIT", CONFIG_DURATION, 0, "30s", "Longest wait granted to `Prefer: wait`.", AT(max_wait_ms), 0,
          MINUTES(10) },
        { "READ_TIMEOUT", CONFIG_DURATION, 0, "15s",
          "A connection that has not sent a complete request by then is closed.", AT(read_timeout_ms), SECONDS(1),
          MINUTES(10) },
        { "DRAIN", CONFIG_DURATION, 0, "10s",
          "After SIGTERM, for this long it reports not ready but keeps serving, until balancers have noticed; then it "
          "stops. At least as long as they take to notice.",
          AT(drain_ms), 0, MINUTES(10) },
        { "CONNECTIONS", CONFIG_INTEGER, 0, "4000", "Maximum number of connections.", AT(connections), 1, 100000 },
        { "CONNECTIONS_PER_ADDRESS", CONFIG_INTEGER, 0, "1000", "Maximum number of connections from one address.",
          AT(connections_per_address), 1, 100000 },
        { "TRUSTED_PROXIES", CONFIG_TEXT, 0, NULL,
          "Addresses and ranges of the proxies in front of this gateway, separated by commas. Only they are trusted to "
          "name the caller's address (Forwarded, X-Forwarded-For, the PROXY protocol).",
          AT(trusted_proxies), 0, 0 },
        { "STRIPE_WEBHOOK_SECRET", CONFIG_TEXT, CONFIG_SECRET, NULL,
          "Signing secret of the webhook endpoint at Stripe; several, separated by commas, while one is rolled. "
          "Without it, webhooks are refused (503).",
          AT(stripe_webhook_secret), 0, 0 },
        { "STRIPE_LIVEMODE", CONFIG_BOOL, 0, "0",
          "Takes Stripe's events of live mode, and refuses those of test mode; off: the other way round.",
          AT(stripe_livemode), 0, 0 },
};

static int config_check(const void *part, struct err *err)
{
        const struct gateway_config *config = part;
        struct proxies *proxies = NULL;
        struct stripe_secrets *secrets = NULL;
        int rc = tokens_check(config->tokens, err);

        if (rc == 0)
                rc = config_check_address("HTTP_ADDRESS", config->address, err);
        if (rc == 0)
                rc = proxies_parse("TRUSTED_PROXIES", config->trusted_proxies, &proxies, err);
        if (rc == 0)
                rc = stripe_secrets_parse("STRIPE_WEBHOOK_SECRET", config->stripe_webhook_secret, &secrets, err);
        proxies_free(proxies);
        stripe_secrets_free(secrets);
        return rc;
}

const struct config_table GATEWAY_OPTIONS = { .options = OPTIONS, .count = ARRAY_SIZE(OPTIONS), .check = config_check };
