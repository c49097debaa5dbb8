/* `tenantry billing verify`: rebuilds all that billing knows from Stripe's events in Kafka, and compares. Needs neither
 * gateway nor billing; changes nothing. */
#include "cli/billing.h"
#include "cli/brokers.h"
#include "cli/listing.h"
#include "cli/server.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/contracts/billing.h"
#include "common/contracts/stripe_event.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define POLL_MS  200
#define QUIET_MS SECONDS(15) /* nothing comes, though something is left */
#define BATCH    100

/* What is read is what billing had taken when the transaction began: both ends of the comparison are of one moment. The
 * replica is in a schema that the rollback takes away. */
static const char SQL_BEGIN[] =
        "begin isolation level repeatable read; set local lock_timeout = '5s'; set local client_min_messages = warning";
static const char SQL_OFFSETS[] = "select partition, next_offset from billing.consumer_offset where topic = $1";
static const char SQL_REPLICA[] = "select billing.make_replica($1)";
static const char SQL_PATH[] = "select set_config('search_path', $1 || ', durable', true)";
static const char SQL_TAKE[] = "select take_missing($1::jsonb)";
static const char SQL_COMPARE[] =
        "select jsonb_build_object('kind', kind, 'id', id, 'tenant_id', tenant_id, 'verdict', "
        "verdict, 'here', here, 'rebuilt', rebuilt) "
        "from billing.replica_differences($1, $2::boolean)";

struct verify {
        PGconn *conn;
        rd_kafka_t *rk;
        char schema[64];
        rd_kafka_topic_partition_list_t *positions; /* the next to be read */
        int64_t *until;                             /* of each of these: the first that is not */
        json_t *batch;
        json_int_t messages, unreadable;
        bool is_whole; /* the topic still has its beginning */
};

/* The result; NULL after complaining. Cleared by the caller. */
static PGresult *verify_ask(const struct verify *verify, const char *sql, const char *one, const char *two)
{
        const char *const params[] = { one, two };
        PGresult *result = one ? PQexecParams(verify->conn, sql, two ? 2 : 1, NULL, params, NULL, NULL, 0)
                               : PQexec(verify->conn, sql);
        ExecStatusType status = PQresultStatus(result);
        auto_free char *why = NULL;

        if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
                return result;
        PQclear(result);
        why = server_why(verify->conn);
        cli_fail(EXIT_FAILED, "the catalog: %s", why);
        return NULL;
}

static int verify_do(const struct verify *verify, const char *sql, const char *one)
{
        PGresult *result = verify_ask(verify, sql, one, NULL);

        if (result == NULL)
                return EXIT_FAILED;
        PQclear(result);
        return EXIT_GOOD;
}

static int verify_open_catalog(struct verify *verify)
{
        const char *url = cli_setting("CATALOG_ADMIN_URL");
        auto_free char *why = NULL;
        int status;

        if (url == NULL)
                return cli_fail(EXIT_USAGE, "set CATALOG_ADMIN_URL to the catalog's URL as its owner");
        verify->conn = server_connect(url, "tenantry-verify", &why);
        if (verify->conn == NULL)
                return cli_fail(EXIT_AWAY, "the catalog: %s", why);
        snprintf(verify->schema, sizeof(verify->schema), "billing_verify_%d", PQbackendPID(verify->conn));
        status = verify_do(verify, SQL_BEGIN, NULL);
        if (status == EXIT_GOOD)
                status = verify_do(verify, SQL_REPLICA, verify->schema);
        if (status == EXIT_GOOD)
                status = verify_do(verify, SQL_PATH, verify->schema);
        return status;
}

/* From where to where each partition is read. */
static int verify_find_ends(struct verify *verify, const PGresult *offsets)
{
        int count = PQntuples(offsets), kept = 0;

        verify->positions = rd_kafka_topic_partition_list_new(count);
        verify->until = mem_alloc((size_t)count + 1, sizeof(*verify->until));
        for (int row = 0; row < count; row++) {
                int32_t partition = (int32_t)strtol(PQgetvalue(offsets, row, 0), NULL, 10);
                int64_t taken = strtoll(PQgetvalue(offsets, row, 1), NULL, 10), low, high;
                rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(verify->rk, STRIPE_TOPIC, partition, &low,
                                                                            &high, BROKERS_TIMEOUT_MS);

                if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
                        return cli_fail(EXIT_AWAY, "Kafka: partition %d of " STRIPE_TOPIC ": %s", (int)partition,
                                        rd_kafka_err2str(code));
                verify->is_whole = verify->is_whole && low == 0;
                if (MIN(taken, high) > low) {
                        rd_kafka_topic_partition_list_add(verify->positions, STRIPE_TOPIC, partition)->offset = low;
                        verify->until[kept++] = MIN(taken, high);
                }
        }
        return EXIT_GOOD;
}

static int verify_open_topic(struct verify *verify)
{
        PGresult *offsets = NULL;
        int status = brokers_open(RD_KAFKA_CONSUMER, &verify->rk);

        if (status == EXIT_GOOD)
                status = brokers_demand(verify->rk);
        if (status != EXIT_GOOD)
                return status;
        offsets = verify_ask(verify, SQL_OFFSETS, STRIPE_TOPIC, NULL);
        if (offsets == NULL)
                return EXIT_FAILED;
        status = verify_find_ends(verify, offsets);
        PQclear(offsets);
        return status;
}

static int verify_take_batch(struct verify *verify)
{
        auto_free char *text = json_print(verify->batch);

        if (json_array_size(verify->batch) == 0)
                return EXIT_GOOD;
        json_array_clear(verify->batch);
        return verify_do(verify, SQL_TAKE, text);
}

static int verify_take(struct verify *verify, const rd_kafka_message_t *message)
{
        auto_json *event = NULL;
        json_t *read = NULL;

        verify->messages++;
        if (message->payload == NULL || json_parse(message->payload, message->len, &event, NULL) < 0 ||
            stripe_event_read(event, &read, NULL) < 0)
                verify->unreadable++; /* a dead letter */
        else
                json_array_append_new(verify->batch, read);
        return json_array_size(verify->batch) == BATCH ? verify_take_batch(verify) : EXIT_GOOD;
}

/* Whether the message is one to be taken; notes how far its partition is read. */
static bool verify_moves(struct verify *verify, const rd_kafka_message_t *message)
{
        for (int i = 0; i < verify->positions->cnt; i++) {
                rd_kafka_topic_partition_t *position = &verify->positions->elems[i];

                if (position->partition == message->partition && position->offset < verify->until[i]) {
                        position->offset = message->offset + 1;
                        return message->offset < verify->until[i];
                }
        }
        return false;
}

static bool verify_is_at_end(const struct verify *verify)
{
        for (int i = 0; i < verify->positions->cnt; i++)
                if (verify->positions->elems[i].offset < verify->until[i])
                        return false;
        return true;
}

static int verify_read(struct verify *verify)
{
        int64_t heard_at = clock_boot_ms();
        int status = EXIT_GOOD;

        rd_kafka_poll_set_consumer(verify->rk);
        rd_kafka_assign(verify->rk, verify->positions);
        while (status == EXIT_GOOD && !verify_is_at_end(verify)) {
                rd_kafka_message_t *message = rd_kafka_consumer_poll(verify->rk, POLL_MS);

                if (cli_interrupted)
                        status = cli_fail(EXIT_FAILED, "interrupted");
                else if (message == NULL && clock_boot_ms() > heard_at + QUIET_MS)
                        status = cli_fail(EXIT_AWAY, "Kafka gives no more of " STRIPE_TOPIC ", though more was taken");
                else if (message != NULL && message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                        heard_at = clock_boot_ms();
                        if (verify_moves(verify, message))
                                status = verify_take(verify, message);
                }
                if (message != NULL)
                        rd_kafka_message_destroy(message);
        }
        rd_kafka_assign(verify->rk, NULL);
        return status == EXIT_GOOD ? verify_take_batch(verify) : status;
}

/* The names of what is not the same. */
static char *verify_names_cell(const json_t *difference)
{
        json_t *here = json_object_get(difference, "here"), *rebuilt = json_object_get(difference, "rebuilt");
        struct buf names = { 0 };
        const char *name;
        json_t *value;

        buf_add_text(&names, "");
        if (!json_is_object(here) || !json_is_object(rebuilt)) {
                buf_add_text(&names, json_is_object(here) ? "not in the topic" : "not in the catalog");
                return buf_take(&names);
        }
        json_object_foreach (here, name, value)
                if (!json_equal(value, json_object_get(rebuilt, name)))
                        buf_printf(&names, "%s%s", names.length > 0 ? ", " : "", name);
        json_object_foreach (rebuilt, name, value)
                if (json_object_get(here, name) == NULL)
                        buf_printf(&names, "%s%s", names.length > 0 ? ", " : "", name);
        return buf_take(&names);
}

static const struct column VERIFY_COLUMNS[] = {
        { .heading = "KIND", .member = "kind" },
        { .heading = "ID", .member = "id" },
        { .heading = "TENANT", .member = "tenant_id" },
        { .heading = "VERDICT", .member = "verdict" },
        { .heading = "NOT THE SAME", .member = "names", .cell = verify_names_cell },
        { .heading = NULL },
};

static const struct listing VERIFY_LISTED = {
        .items = "differences", .none = "no differences", .names = { "id" }, .id = "id", .columns = VERIFY_COLUMNS
};

static int verify_compare(const struct verify *verify, json_t *differences, json_int_t *ret_different)
{
        PGresult *result = verify_ask(verify, SQL_COMPARE, verify->schema, verify->is_whole ? "true" : "false");

        if (result == NULL)
                return EXIT_FAILED;
        *ret_different = 0;
        for (int row = 0; row < PQntuples(result); row++) {
                const char *text = PQgetvalue(result, row, 0);
                json_t *difference = NULL;

                if (json_parse(text, strlen(text), &difference, NULL) < 0)
                        continue;
                *ret_different += strcmp(json_text(difference, "verdict") ?: "", "different") == 0;
                json_array_append_new(differences, difference);
        }
        PQclear(result);
        return EXIT_GOOD;
}

static int verify_tell(const struct verify *verify)
{
        json_t *differences = json_array();
        json_int_t different;
        auto_json *whole = json_pack("{s:I, s:I, s:b, s:o}", "messages", verify->messages, "unreadable",
                                     verify->unreadable, "whole", verify->is_whole, "differences", differences);
        int status = verify_compare(verify, differences, &different);

        if (status != EXIT_GOOD)
                return status;
        json_object_set_new(whole, "different", json_integer(different));
        if (cli_output == OUTPUT_TEXT)
                fprintf(stderr, "%lld messages were read%s\n", (long long)verify->messages,
                        verify->is_whole ? "" : "; Kafka has deleted older ones");
        if (different > 0)
                status =
                        cli_fail(EXIT_FAILED, "%lld states are not what the events make of them", (long long)different);
        if (cli_json)
                cli_print_answer(whole);
        else
                listing_show(&VERIFY_LISTED, whole);
        return status;
}

int billing_verify(int argc, char **argv)
{
        struct verify verify = { .is_whole = true };
        int status = cli_expect(argc, argv, 1);

        if (status != EXIT_GOOD)
                return status;
        cli_catch_interrupt();
        verify.batch = json_array();
        status = verify_open_catalog(&verify);
        if (status == EXIT_GOOD)
                status = verify_open_topic(&verify);
        if (status == EXIT_GOOD)
                status = verify_read(&verify);
        if (status == EXIT_GOOD)
                status = verify_tell(&verify);
        if (verify.positions != NULL)
                rd_kafka_topic_partition_list_destroy(verify.positions);
        if (verify.rk != NULL)
                rd_kafka_destroy_flags(verify.rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        PQfinish(verify.conn); /* which rolls all of it back */
        free(verify.until);
        json_decref(verify.batch);
        return status;
}
