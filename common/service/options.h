/* Options that several services have, a table for each group of them. A service takes the groups that it needs: it has
 * their structs in its own configuration and their tables, at those places, in its definition. */
#pragma once

#include "common/base/config.h"
#include "common/base/keyring.h"
#include "common/net/mail.h"

/* For struct service_config (service.h), which all services have. */
extern const struct config_table SERVICE_OPTIONS;

struct key_config {
        char *control_keys; /* NULL where the service has no such option */
        char *app_keys;
};

/* APP_KEYS; CONTROL_KEYS. */
extern const struct config_table APP_KEY_OPTIONS, CONTROL_KEY_OPTIONS;

/* Where people find the gateway and the product. */
struct link_config {
        char *public_url, *product_url;
};

extern const struct config_table LINK_OPTIONS;

struct mail_config {
        char *smtp_url, *smtp_user, *smtp_password, *smtp_ca, *directory, *from;
};

extern const struct config_table MAIL_OPTIONS;

/* config is borrowed for the life of the process; limit: mails on their way at once. */
struct mailer *mail_config_mailer(const struct mail_config *config, uv_loop_t *loop, size_t limit);

/* How alerts reach people. */
struct alert_config {
        char *webhook, *mail;
};

extern const struct config_table ALERT_OPTIONS;
