/* The gateway's configuration. */
#pragma once

#include "common/contracts/plan_options.h"
#include "common/service/options.h"
#include "common/service/service.h"

struct gateway_config {
        struct service_config service;
        char *address;
        int64_t port;
        char *tokens;
        struct key_config keys; /* control_keys is not used */
        struct link_config links;
        struct plan_config plans;
        bool public_signup;
        int64_t public_signup_per_hour, signups_in_progress;
        int64_t message_timeout_ms, max_wait_ms, read_timeout_ms;
        int64_t connections, connections_per_address, drain_ms;
        char *trusted_proxies;
        char *stripe_webhook_secret;
        bool stripe_livemode;
};

extern const struct config_table GATEWAY_OPTIONS;
