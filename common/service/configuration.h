/* Configuration errors beyond the types of values, and the exit status that an error leads to. */
#pragma once

#include "common/base/config.h"
#include "common/kafka/client.h"

#define EXIT_FAILED        1 /* a restart may help */
#define EXIT_CONFIGURATION 2 /* a restart will not help, and supervisors need not try: a person must fix something */

/* 2 for ERR_INPUT, otherwise 1. */
int exit_status_of(const struct err *err);
/* --check-config, once all values are read: reports what the service would find out only later, or never, or that all
 * is well. Returns the exit status. */
int configuration_check(const struct config_table *tables, size_t count, const struct kafka_settings *kafka);
/* At startup: logs what looks wrong but may be right. */
void configuration_warn(const struct config_table *tables, size_t count, const struct kafka_settings *kafka);
