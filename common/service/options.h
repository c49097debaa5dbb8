/* Options shared by several services, in one table per group. A service uses the groups it needs: its own configuration
 * contains their structs, and its definition lists their tables with the offsets of these structs. */
#pragma once

#include "common/base/config.h"
#include "common/base/keyring.h"
#include "common/net/mail.h"

/* For struct service_config (service.h), common to all services. */
extern const struct config_table SERVICE_OPTIONS;

struct key_config {
        char *control_keys; /* NULL if the service has no such option */
        char *app_keys;
};

/* APP_KEYS; CONTROL_KEYS. */
extern const struct config_table APP_KEY_OPTIONS, CONTROL_KEY_OPTIONS;

/* Where people reach the gateway and the product. */
struct link_config {
        char *public_url, *product_url;
};

extern const struct config_table LINK_OPTIONS;

struct mail_config {
        char *smtp_url, *smtp_user, *smtp_password, *smtp_ca, *directory, *from, *templates;
};

extern const struct config_table MAIL_OPTIONS;

/* config is borrowed for the life of the process; limit: mails being sent at once. */
struct mailer *mail_config_mailer(const struct mail_config *config, uv_loop_t *loop, size_t limit);

/* How alerts reach people. */
struct alert_config {
        char *webhook, *mail;
};

extern const struct config_table ALERT_OPTIONS;

/* Our account at Stripe. */
struct stripe_config {
        char *secret_key; /* NULL = there is none */
        char *api_url;
};

/* STRIPE_SECRET_KEY, STRIPE_API_URL. A live key is refused together with SANDBOX=1, and with an address without TLS. */
extern const struct config_table STRIPE_OPTIONS;

/* Whether a secret key is one of live mode: what is done with it moves money. */
bool stripe_config_is_live(const struct stripe_config *config);
