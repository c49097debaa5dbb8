/* Configuration is one declared table per service. From it come parsing (.env file, environment, NAME_FILE for
 * secrets), --help, --check-config, .env.example and the reference in docs/configuration.md. */
#pragma once

#include "common/base/err.h"

#include <stdio.h>

enum config_type {
        CONFIG_TEXT,     /* const char * */
        CONFIG_INTEGER,  /* int64_t, between min and max */
        CONFIG_DURATION, /* int64_t milliseconds: "500ms", "30s", "15m", "24h", "14d", "0" */
        CONFIG_BOOL,     /* bool: 1, 0, true, false, on, off */
};

enum config_flag { CONFIG_SECRET = 1, CONFIG_REQUIRED = 2 };

struct config_option {
        const char *name; /* the environment variable */
        enum config_type type;
        unsigned flags;
        const char *fallback; /* parsed like a given value; NULL = unset */
        const char *help;     /* one sentence for the reference */
        size_t offset;        /* of the field in the service's struct */
        int64_t min, max;     /* CONFIG_INTEGER, CONFIG_DURATION (milliseconds); max 0 = no limits */
};

struct config_table {
        const struct config_option *options;
        size_t count;
        /* Checks the filled part beyond types; returns 0 or -ERR_INPUT naming the option. NULL = none. */
        int (*check)(const void *part, struct err *err);
        size_t base; /* offset of the part that the options describe in the whole struct */
};

/* The same table, for a part at offset base in the struct. */
struct config_table config_at(const struct config_table *table, size_t base);
/* Fills *target (zeroed before) from the environment, then from the file named by TENANTRY_ENV_FILE, then from the
 * fallbacks. Texts belong to *target and live as long as the process. Returns 0 or -ERR_INPUT with the variable named.
 * count tables describe parts of the same struct, whose checks are made at the end. */
int config_load(void *target, const struct config_table *tables, size_t count, struct err *err);
/* -ERR_INPUT naming a variable that is set, belongs to no option, and is most likely a misspelling of an option that is
 * not set; else 0. Call after config_load. */
int config_check_names(const struct config_table *tables, size_t count, struct err *err);
/* Such a variable for one option, or NULL; the caller frees. */
char *config_lookalike(const char *option, const struct config_table *tables, size_t count);
/* Checks that go beyond the type; NULL values are fine. choices: "a|b|c". Each returns 0 or -ERR_INPUT naming the
 * variable. */
int config_check_choice(const char *name, const char *value, const char *choices, struct err *err);
int config_check_url(const char *name, const char *value, struct err *err);
int config_check_directory(const char *name, const char *value, struct err *err);
int config_check_file(const char *name, const char *value, struct err *err);    /* that we may read */
int config_check_address(const char *name, const char *value, struct err *err); /* of IP, to listen on; not NULL */
/* The value of NAME, or the content of the file that NAME_FILE names, for programs without a table. The caller frees
 * *ret (mem_free_secret); NULL where neither is set. Returns 0 or -ERR_INPUT. */
int config_read(const char *name, char **ret, struct err *err);
/* One value as config_load would parse it; for tests and fuzzing. Returns 0 or -ERR_INPUT. */
int config_parse(const struct config_option *option, const char *text, void *target, struct err *err);
void config_print_help(FILE *out, const struct config_table *tables, size_t count);
/* A commented .env file with every option. */
void config_print_env(FILE *out, const struct config_table *tables, size_t count);
/* The same as rows of a Markdown table. */
void config_print_markdown(FILE *out, const struct config_table *tables, size_t count);
