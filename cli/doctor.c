/* `tenantry doctor`: see doctor.h. Here: the frame, configuration, gateway and Kafka. */
#include "cli/doctor.h"

#include "cli/api.h"
#include "cli/brokers.h"
#include "cli/terminal.h"
#include "cli/topics.h"
#include "common/base/keyring.h"
#include "common/base/memory.h"
#include "common/kafka/client.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

PRINTF(5, 0)
static void doctor_note(struct doctor *doctor, const char *name, const char *verdict, const char *advice,
                        const char *format, va_list args)
{
        const char *colour = colour_of(verdict);
        auto_free char *safe = NULL;
        auto_free char *found = NULL;

        if (vasprintf(&found, format, args) < 0)
                abort();
        safe = text_safe(found);
        json_array_append_new(doctor->checks, json_pack("{s:s, s:s, s:s, s:s?}", "name", name, "verdict", verdict,
                                                        "found", safe, "advice", advice));
        if (cli_json)
                return;
        printf("%s%-8s%s %-14s %s%s%s\n", colour, verdict, *colour ? colour_end() : "", name, safe, advice ? "; " : "",
               advice ? advice : "");
        fflush(stdout);
}

void doctor_good(struct doctor *doctor, const char *name, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        doctor_note(doctor, name, "good", NULL, format, args);
        va_end(args);
}

void doctor_bad(struct doctor *doctor, const char *name, const char *advice, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        doctor_note(doctor, name, "bad", advice, format, args);
        va_end(args);
        doctor->bad++;
}

void doctor_skip(struct doctor *doctor, const char *name, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        doctor_note(doctor, name, "skipped", NULL, format, args);
        va_end(args);
}

static void doctor_check_variable(struct doctor *doctor, const char *name, const char *advice)
{
        if (cli_setting(name) == NULL)
                doctor_bad(doctor, "configuration", advice, "%s is not set", name);
}

static void doctor_check_ring(struct doctor *doctor, const char *name)
{
        const char *text = cli_setting(name);
        struct keyring *ring = NULL;
        struct err err;

        if (text == NULL)
                return;
        if (keyring_parse(name, text, &ring, &err) < 0)
                doctor_bad(doctor, "keys", "make one with: tenantry keys new", "%s", err.message);
        else
                doctor_good(doctor, "keys", "%s seals with %s", name, keyring_primary(ring));
        keyring_free(ring);
}

static void doctor_check_configuration(struct doctor *doctor)
{
        const char *archive = cli_setting("ARCHIVE_DIRECTORY");
        int bad = doctor->bad;

        doctor_check_variable(doctor, "TENANTRY_URL", "set it to the gateway's address; after `make demo`: . .run/env");
        doctor_check_variable(doctor, "TENANTRY_TOKEN",
                              "make one with: tenantry keys token --name NAME --scopes admin");
        doctor_check_variable(doctor, "KAFKA_BROKERS", "set it to host:port of the brokers");
        if (cli_setting("CATALOG_ADMIN_URL") == NULL)
                doctor_check_variable(doctor, "CATALOG_DATABASE_URL",
                                      "set it, or CATALOG_ADMIN_URL, to the catalog's URL");
        if (bad == doctor->bad)
                doctor_good(doctor, "configuration",
                            "TENANTRY_URL, TENANTRY_TOKEN, KAFKA_BROKERS and the catalog's URL are set");
        doctor_check_ring(doctor, "CONTROL_KEYS");
        doctor_check_ring(doctor, "APP_KEYS");
        if (archive != NULL && access(archive, W_OK | X_OK) != 0)
                doctor_bad(doctor, "archive", "create it, and let the provisioner's user write there",
                           "ARCHIVE_DIRECTORY %s cannot be written", archive);
        else if (archive != NULL)
                doctor_good(doctor, "archive", "ARCHIVE_DIRECTORY can be written");
}

static void doctor_check_gateway(struct doctor *doctor)
{
        struct api_answer answer = { 0 };
        const char *detail;
        int code;

        if (cli_setting("TENANTRY_URL") == NULL)
                return;
        code = api_send(&(struct api_request){ .method = "GET", .path = "/api/tenants?limit=1" }, &answer);
        detail = json_text(answer.body, "detail");
        if (code == EXIT_GOOD && json_is_array(json_object_get(answer.body, "tenants")))
                doctor_good(doctor, "gateway", "answers, and the token may read");
        else if (answer.status == 0)
                doctor_bad(doctor, "gateway", "start it, or correct TENANTRY_URL", "%s", answer.away);
        else if (answer.status == 401)
                doctor_bad(doctor, "gateway", "correct TENANTRY_TOKEN, or put its line into the TOKENS file",
                           "does not know the token");
        else if (answer.status == 403)
                doctor_bad(doctor, "gateway", "use one with the scope read or admin", "the token may not read");
        else if (answer.status == 503)
                doctor_bad(doctor, "gateway", "see what this says about the catalog", "%s",
                           detail ? detail : "answers 503");
        else
                doctor_bad(doctor, "gateway", "does TENANTRY_URL name the gateway?", "answers %ld", answer.status);
        api_answer_release(&answer);
}

static void doctor_check_ops(struct doctor *doctor, const char *base)
{
        auto_free char *url = mem_printf("%s/readyz", base), *away = NULL;
        auto_json *body = NULL;
        long status = api_probe(url, NULL, &body, &away);
        const char *detail = json_text(body, "detail");

        if (status == 200)
                doctor_good(doctor, "service", "%s is ready", base);
        else if (status == 0)
                doctor_bad(doctor, "service", "start it, or correct TENANTRY_OPS_URL", "%s: %s", base, away);
        else
                doctor_bad(doctor, "service", "look at its log", "%s is not ready: %s", base,
                           detail ? detail : "no reason given");
}

static void doctor_check_services(struct doctor *doctor)
{
        auto_free char *list = mem_copy_text(cli_setting("TENANTRY_OPS_URL"));
        char *rest = list, *base;

        if (list == NULL)
                doctor_skip(doctor, "service",
                            "TENANTRY_OPS_URL (http://host:ops-port, separated by commas) is not set");
        while (rest != NULL && (base = strsep(&rest, ",")) != NULL) {
                size_t length = strlen(base);

                while (length > 0 && base[length - 1] == '/')
                        base[--length] = '\0';
                if (length > 0)
                        doctor_check_ops(doctor, base);
        }
}

static void doctor_check_topic(struct doctor *doctor, const struct rd_kafka_metadata_topic *topic)
{
        if (topic->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
                doctor_bad(doctor, "topics", "run: tenantry init", "%s is missing", topic->topic);
        else if (topic->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
                doctor_bad(doctor, "topics", "grant it Describe, or use the provisioner's login",
                           "this login may not see %s", topic->topic);
        else if (topic->err != RD_KAFKA_RESP_ERR_NO_ERROR)
                doctor_bad(doctor, "topics", "look at the brokers", "%s: %s", topic->topic,
                           rd_kafka_err2str(topic->err));
        for (int p = 0; p < topic->partition_cnt; p++)
                if (topic->partitions[p].leader < 0) /* messages for it wait */
                        doctor_bad(doctor, "topics", "bring its brokers back", "partition %d of %s has no leader", p,
                                   topic->topic);
}

static void doctor_check_topics(struct doctor *doctor, rd_kafka_t *rk)
{
        const struct rd_kafka_metadata *metadata;
        rd_kafka_resp_err_t code = topics_ask(rk, &metadata);
        int bad = doctor->bad;

        if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
                doctor_bad(doctor, "kafka", "try again", "does not list its topics: %s", rd_kafka_err2str(code));
                return;
        }
        doctor_good(doctor, "kafka", "%d broker%s", metadata->broker_cnt, metadata->broker_cnt == 1 ? "" : "s");
        for (int t = 0; t < metadata->topic_cnt; t++)
                doctor_check_topic(doctor, &metadata->topics[t]);
        if (bad == doctor->bad)
                doctor_good(doctor, "topics", "all there");
        rd_kafka_metadata_destroy(metadata);
}

static const char *doctor_advice_for(const struct err *err)
{
        static const struct {
                const char *code, *advice;
        } known[] = {
                { "kafka_login", "correct sasl.mechanisms, sasl.username and sasl.password in KAFKA_PROPERTIES" },
                { "kafka_tls", "correct security.protocol and ssl.ca.location in KAFKA_PROPERTIES" },
                { "kafka_name", "correct KAFKA_BROKERS, or the name server" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(known); i++)
                if (strcmp(known[i].code, err->code) == 0)
                        return known[i].advice;
        return "start the brokers, or correct KAFKA_BROKERS and security.protocol in KAFKA_PROPERTIES";
}

static void doctor_check_kafka(struct doctor *doctor)
{
        struct kafka_settings settings = { .brokers = cli_setting("KAFKA_BROKERS"),
                                           .client_id = "tenantry-cli",
                                           .properties = cli_setting("KAFKA_PROPERTIES") };
        auto_free char *advice = NULL;
        struct err err;
        rd_kafka_t *rk;

        if (settings.brokers == NULL)
                return;
        if (brokers_open(RD_KAFKA_CONSUMER, &rk) != EXIT_GOOD) {
                doctor_bad(doctor, "kafka", "mend it", "KAFKA_BROKERS or KAFKA_PROPERTIES cannot be used");
                return;
        }
        advice = kafka_client_advice(&settings);
        if (brokers_reach(rk, &err) < 0)
                doctor_bad(doctor, "kafka", advice ? advice : doctor_advice_for(&err), "%s", err.message);
        else
                doctor_check_topics(doctor, rk);
        rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

int run_doctor(int argc, char **argv)
{
        struct doctor doctor = { 0 };
        auto_json *whole = NULL;
        auto_free char *summary = NULL;

        if (cli_expect(argc, argv, 0) != EXIT_GOOD)
                return EXIT_USAGE;
        doctor.checks = json_array();
        doctor_check_configuration(&doctor);
        doctor_check_gateway(&doctor);
        doctor_check_services(&doctor);
        doctor_check_kafka(&doctor);
        doctor_check_catalog(&doctor);
        doctor_check_provider(&doctor);
        whole = json_pack("{s:b, s:i, s:o}", "good", doctor.bad == 0, "bad_count", doctor.bad, "checks", doctor.checks);
        summary = mem_printf("%d to mend", doctor.bad);
        if (doctor.bad > 0)
                cli_blame(EXIT_FAILED, summary);
        if (cli_json)
                cli_print_answer(whole);
        else if (doctor.bad > 0)
                printf("\n%s\n", summary);
        return doctor.bad == 0 ? EXIT_GOOD : EXIT_FAILED;
}
