/* Delivers alerts to people: to the log, by webhook and by mail, one process at a time, until each has been delivered
 * once. Any service raises alerts in the catalog (catalog.raise_alert); one service delivers all of them. */
#pragma once

#include "common/service/options.h"
#include "common/service/service.h"

struct alerter;

/* config and mailer are borrowed. */
struct alerter *alerter_new(struct service *service, const struct alert_config *config, struct mailer *mailer);
/* Call after freeing the mailer, since mails being sent report to the alerter. NULL is fine. */
void alerter_free(struct alerter *alerter);
