/* Alerts on their way to people: to the log, by webhook and by mail, one process at a time, until each was delivered
 * once. Alerts are raised in the catalog (catalog.raise_alert), by whichever service; one service delivers all. */
#pragma once

#include "common/service/options.h"
#include "common/service/service.h"

struct alerter;

/* config and mailer are borrowed. */
struct alerter *alerter_new(struct service *service, const struct alert_config *config, struct mailer *mailer);
/* After the mailer: mails on their way report to it. NULL is fine. */
void alerter_free(struct alerter *alerter);
