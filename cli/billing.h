/* The subcommands of `tenantry billing`, by file. */
#pragma once

#include "cli/cli.h"

/* billing_tenant.c: what a tenant has bought, and what an operator gives it beside that. */
int billing_show(int argc, char **argv);
int billing_override(int argc, char **argv);
int billing_end_duplicate(int argc, char **argv);

/* billing_events.c: what became of Stripe's events, and the suspensions that wait for an operator. */
int billing_events(int argc, char **argv);
int billing_replay(int argc, char **argv);
int billing_held(int argc, char **argv);
int billing_release(int argc, char **argv);
