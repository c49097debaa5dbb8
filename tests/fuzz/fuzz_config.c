/* Configuration: values of each type, and whole .env files. A secret's value must never stand in a message. */
#include "tests/fuzz/fuzz.h"

#include "common/base/config.h"
#include "common/base/memory.h"

#include <sys/mman.h>
#include <unistd.h>

struct settings {
        char *text, *secret;
        int64_t integer, any_integer, duration, secret_integer;
        bool flag;
};

#define AT(field) offsetof(struct settings, field)

static const struct config_option OPTIONS[] = {
        { "FUZZ_TEXT", CONFIG_TEXT, 0, "x", "A text.", AT(text), 0, 0 },
        { "FUZZ_SECRET", CONFIG_TEXT, CONFIG_SECRET, NULL, "A secret.", AT(secret), 0, 0 },
        { "FUZZ_INTEGER", CONFIG_INTEGER, 0, "5", "A number.", AT(integer), 1, 65535 },
        { "FUZZ_ANY", CONFIG_INTEGER, 0, NULL, "Any number.", AT(any_integer), 0, 0 },
        { "FUZZ_DURATION", CONFIG_DURATION, 0, "5s", "A time.", AT(duration), 0, 0 },
        { "FUZZ_PIN", CONFIG_INTEGER, CONFIG_SECRET, NULL, "A secret number.", AT(secret_integer), 0, 9999 },
        { "FUZZ_FLAG", CONFIG_BOOL, 0, "0", "A switch.", AT(flag), 0, 0 },
};
static const struct config_table TABLE = { .options = OPTIONS, .count = ARRAY_SIZE(OPTIONS) };

/* The file's lines come here and not into the environment, which never gives memory back; only our own names pass. */
static char *entries[ARRAY_SIZE(OPTIONS)];

int setenv(const char *name, const char *value, int replace)
{
        for (size_t i = 0; i < ARRAY_SIZE(OPTIONS); i++)
                if (strcmp(name, OPTIONS[i].name) == 0 && (replace || getenv(name) == NULL)) {
                        entries[i] = mem_printf("%s=%s", name, value);
                        putenv(entries[i]);
                }
        MUST(*name != '\0' && strchr(name, '=') == NULL);
        return 0;
}

static void forget(struct settings *settings)
{
        for (size_t i = 0; i < ARRAY_SIZE(OPTIONS); i++) {
                unsetenv(OPTIONS[i].name);
                free(TAKE_PTR(entries[i]));
        }
        free(settings->text);
        free(settings->secret);
        *settings = (struct settings){ 0 };
}

static void check(const struct settings *settings, int rc, const struct err *err)
{
        if (rc < 0) {
                MUST(err->class == ERR_INPUT && err->message[0] != '\0');
                return;
        }
        MUST(settings->integer == 0 || (settings->integer >= 1 && settings->integer <= 65535));
        MUST(settings->duration >= 0);
        MUST(settings->secret_integer >= 0 && settings->secret_integer <= 9999);
}

static void parse_values(const char *text)
{
        struct settings settings = { 0 };
        struct err err;

        for (size_t i = 0; i < ARRAY_SIZE(OPTIONS); i++) {
                int rc = config_parse(&OPTIONS[i], text, &settings, &err);

                check(&settings, rc, &err);
                MUST(rc == 0 || strcmp(err.field, OPTIONS[i].name) == 0);
        }
        forget(&settings);
}

static void load_file(const uint8_t *bytes, size_t length)
{
        static int file = -1;
        static char entry[64];
        struct settings settings = { 0 };
        struct err err = { 0 };
        int rc;

        if (file < 0) {
                file = memfd_create("env", 0);
                snprintf(entry, sizeof(entry), "TENANTRY_ENV_FILE=/proc/self/fd/%d", file);
                putenv(entry);
        }
        MUST(ftruncate(file, 0) == 0 && pwrite(file, bytes, length, 0) == (ssize_t)length);
        rc = config_load(&settings, &TABLE, 1, &err);
        check(&settings, rc, &err);
        if (rc < 0 && strcmp(err.field, "FUZZ_PIN") == 0)
                MUST(strcmp(err.message, "FUZZ_PIN has a value that cannot be used") == 0);
        forget(&settings);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
        char *text = mem_copy_bytes(bytes, length);

        parse_values(text);
        load_file(bytes, length);
        free(text);
        return 0;
}
