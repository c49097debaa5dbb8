/* What is wrong with a configuration beyond its values' types, and how a process ends because of an error. */
#pragma once

#include "common/base/config.h"
#include "common/kafka/client.h"

#define EXIT_FAILED        1 /* starting again may help */
#define EXIT_CONFIGURATION 2 /* it will not: a person must mend something first, and a supervisor need not try */

/* 2 for ERR_INPUT, else 1. */
int exit_status_of(const struct err *err);
/* --check-config, once all values are read: says what a start would find out only later, or nobody would, or that all
 * is well. Returns the exit status. */
int configuration_check(const struct config_table *tables, size_t count, const struct kafka_settings *kafka);
/* At a start: logs what looks wrong and may be right. */
void configuration_warn(const struct config_table *tables, size_t count, const struct kafka_settings *kafka);
