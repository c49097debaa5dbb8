/* The parts of billing, as they see each other. */
#pragma once

#include "common/base/keyring.h"
#include "common/contracts/plans.h"
#include "common/net/stripe_api.h"
#include "services/billing/config.h"

struct billing {
        struct service *service;
        const struct billing_config *config;
        struct plans *plans;
        struct stripe_account account; /* secret_key NULL: there is none */
        struct keyring *app_keys;      /* the gateway has them, too: what is sealed with them it can tell who waits */
        struct worker *worker;
        struct news *news;
        struct fetcher *fetcher;
        struct sender *sender;
        struct payer *payer;
        struct reconciler *reconciler;
        struct retention *retention;
};
