/* What the provisioner is told. */
#pragma once

#include "common/service/service.h"

struct provisioner_config {
        struct service_config service;
        char *driver;
        char *servers;
        char *control_keys, *app_keys;
        char *migrations;
        char *tenant_sslmode;
        char *public_url, *product_url;
        int64_t workers, app_connections, rotation_overlap_ms;
        char *smtp_url, *smtp_user, *smtp_password, *smtp_ca, *mail_directory, *mail_from;
        char *archive_directory;
        int64_t archive_check_interval_ms, janitor_interval_ms;
        char *alert_webhook, *alert_mail;
        char *supabase_api_url, *supabase_auth_url, *supabase_token, *supabase_organization, *supabase_region_group;
        char *supabase_prefix;
        int64_t supabase_session_port, supabase_rate, supabase_ready_ms, supabase_poll_ms;
};

extern const struct config_table PROVISIONER_OPTIONS;

/* Checks beyond types. Returns 0 or -ERR_INPUT naming the option. */
int provisioner_config_check(const void *config, struct err *err);
