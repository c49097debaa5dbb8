/* Subcommands of `tenantry billing` that have files of their own; each returns an exit code. argv[0] is "billing". */
#pragma once

int billing_reconcile(int argc, char **argv);
int billing_forecast(int argc, char **argv);
int billing_verify(int argc, char **argv);
