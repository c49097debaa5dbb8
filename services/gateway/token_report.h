/* Reports the state of the tokens to the catalog, so that an alert is raised while their file cannot be used. */
#pragma once

#include "services/gateway/gateway.h"

struct token_report;

struct token_report *token_report_new(struct gateway *gateway);
/* NULL is fine. */
void token_report_free(struct token_report *report);
