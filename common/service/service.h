/* The frame every service runs in: configuration, loop, signals, health, metrics, orderly shutdown. */
#pragma once

#include "common/base/config.h"
#include "common/kafka/client.h"
#include "common/net/transfers.h"
#include "common/pg/pool.h"

#include <uv.h>

#ifndef TENANTRY_VERSION
#define TENANTRY_VERSION "0.1.0"
#endif

/* The configuration common to all services. The first member of each service's own configuration struct. */
struct service_config {
        char *log_level;
        char *ops_address;
        int64_t ops_port;
        bool sandbox;
        char *failpoints;
        char *kafka_brokers, *kafka_properties;
        char *catalog_url;
        int64_t catalog_pool_size;
        int64_t lease_ms;
};

struct service {
        uv_loop_t loop;
        const struct service_definition *definition;
        const struct service_config *config;
        struct kafka_settings kafka;
        struct pg_pool *catalog;
        struct transfers *transfers;
        char instance[64]; /* identifies this process, unlike any other, past or present */
        bool draining;     /* SIGTERM received: callers are told to look elsewhere, and nothing else has changed yet */
        bool stopping;
        void *state; /* the service's own */
};

struct service_definition {
        const char *name;
        const char *purpose; /* one sentence for --help */
        const char *schema;  /* the catalog schema the service calls its own */
        const struct config_table
                *tables; /* in addition to SERVICE_OPTIONS: its own options, and shared ones (options.h) */
        size_t table_count;
        size_t config_size; /* of the service's configuration struct */
        /* Creates the parts. config is borrowed for the life of the process. */
        int (*start)(struct service *service, const void *config, struct err *err);
        /* Returns 0 when the service can do its work, or fills err with what is missing. */
        int (*ready)(struct service *service, struct err *err);
        /* After SIGTERM: for how many milliseconds it keeps serving, though no longer ready, so that balancers look
         * elsewhere; or NULL if there are none. */
        int64_t (*drain)(struct service *service);
        /* The end: take nothing new. */
        void (*stop)(struct service *service);
        /* True when no work is in hand any more. */
        bool (*idle)(struct service *service);
        /* Releases everything. */
        void (*finish)(struct service *service);
};

/* The whole life of the process; returns its exit status. */
int service_main(int argc, char **argv, const struct service_definition *definition);
/* For ready(): 0 if the catalog answers and matches this program, or -ERR_BUSY with the reason why not. */
int service_catalog_fits(const struct service *service, struct err *err);
/* Stops the process in an orderly way with an error: 2 for ERR_INPUT, which somebody must fix first, otherwise 1. */
void service_give_up(struct service *service, const struct err *err);
