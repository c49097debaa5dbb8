/* Billing's configuration. */
#pragma once

#include "common/contracts/plan_options.h"
#include "common/service/options.h"
#include "common/service/service.h"

struct billing_config {
        struct service_config service;
        struct plan_config plans;
        struct stripe_config stripe;
        struct key_config keys; /* control_keys is not used */
        struct link_config links;
        struct mail_config mail;
        char *existing_tenants;
        char *return_url, *portal_configuration;
        bool checkout_tax, checkout_promotion_codes;
        bool livemode;
        int64_t calls_per_second;
};

extern const struct config_table BILLING_OPTIONS;
