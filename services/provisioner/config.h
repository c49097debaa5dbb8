/* The provisioner's configuration. */
#pragma once

#include "common/service/options.h"
#include "common/service/service.h"
#include "common/tenant/tenant_options.h"

struct provisioner_config {
        struct service_config service;
        char *driver;
        struct tenant_config tenants;
        struct key_config keys;
        char *migrations;
        struct link_config links;
        int64_t workers, app_connections, rotation_overlap_ms;
        struct mail_config mail;
        char *archive_directory;
        int64_t archive_check_interval_ms, janitor_interval_ms;
        struct alert_config alerts;
        char *supabase_api_url, *supabase_auth_url, *supabase_token, *supabase_organization, *supabase_region_group;
        char *supabase_prefix;
        int64_t supabase_session_port, supabase_rate, supabase_ready_ms, supabase_poll_ms;
};

extern const struct config_table PROVISIONER_OPTIONS;
