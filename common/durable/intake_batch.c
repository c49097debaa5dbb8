/* From a partition into the catalog: see intake_private.h. The messages that have arrived are sent in one statement,
 * which is one transaction. If that fails, the same messages are sent one by one, so that a refused one does not hold
 * up the others. */
#include "common/durable/intake_private.h"

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"

#include <string.h>
#include <utlist.h>

/* A transaction of this many takes some milliseconds, during which others wait for its connection and its tenants. */
#define BATCH_LIMIT 32
#define BATCH_BYTES (256 * 1024) /* a longer message is sent alone */

static const char SQL_TAKE[] = "select taken from take_batch($1::jsonb) taken";

static const char SQL_ALERT[] =
        "select catalog.raise_alert($1, null, 'work waits until something of ours is mended', $2)";

static const char SQL_RESOLVE[] = "select catalog.resolve_alert($1)";

/* Messages of one partition, in order, all in hand. */
struct batch {
        struct batch *next;
        struct intake *intake;
        struct {
                struct kafka_message *message;
                json_t *described;
        } deliveries[BATCH_LIMIT];
        size_t count;
        size_t taken;     /* how many of the first are in the catalog and no longer in hand */
        size_t under_way; /* how many after those are in the statement under way */
        bool one_by_one;  /* they were refused together */
        bool has_bytes;   /* descriptions carry them: the catalog may have to keep them */
        int64_t started_ns;
};

static void batch_send(struct batch *batch);

static void batch_count_results(struct batch *batch, size_t from, size_t count, enum intake_result result)
{
        for (size_t i = from; i < from + count; i++)
                if (!batch->deliveries[i].message->nothing) /* "nothing" is not a message */
                        metric_add(batch->intake->results[result], 1);
}

static void batch_wait_for_catalog(struct batch *batch, const struct err *err)
{
        struct intake *intake = batch->intake;

        log_warn("a message waits for the catalog", "topic", batch->deliveries[batch->taken].message->topic, "code",
                 err->code, "error", err->message, NULL);
        batch_count_results(batch, batch->taken, batch->under_way, INTAKE_RETRIED);
        LL_PREPEND(intake->waiting, batch);
}

static void batch_alert_raised(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        if (err != NULL)
                log_warn("an alert could not be raised or resolved", "cause", "intake-held", "error", err->message,
                         NULL);
}

/* Something the statement names is missing in the catalog, or forbidden: no message is to blame, and none will go
 * through until somebody has fixed that. All wait, and retry at growing intervals. */
static void batch_wait_for_mending(struct batch *batch, const struct err *err)
{
        struct intake *intake = batch->intake;
        auto_free char *cause = mem_printf("intake-held:%s", intake->service->definition->name);

        intake->refusals++;
        intake->refused_at = clock_boot_ms();
        log_error("the catalog refuses messages: they wait in Kafka", "error", err->message, NULL);
        pg_pool_exec(intake->service->catalog, INTAKE_STATEMENT_TIMEOUT, SQL_ALERT, PARAMS(cause, err->message),
                     batch_alert_raised, NULL);
        batch_wait_for_catalog(batch, err);
}

static void intake_mended(struct intake *intake)
{
        auto_free char *cause = NULL;

        if (intake->refusals == 0)
                return;
        intake->refusals = 0;
        cause = mem_printf("intake-held:%s", intake->service->definition->name);
        pg_pool_exec(intake->service->catalog, INTAKE_STATEMENT_TIMEOUT, SQL_RESOLVE, PARAMS(cause), batch_alert_raised,
                     NULL);
}

/* PostgreSQL may refuse one of them, or they deadlocked with others that took the same names in another order. */
static void batch_divide(struct batch *batch, const struct err *err)
{
        log_warn("messages are taken one by one", "topic", batch->deliveries[batch->taken].message->topic, "code",
                 err->code, "error", err->message, NULL);
        batch->one_by_one = batch->has_bytes = true;
        if (err_is_transient(err))
                batch_wait_for_catalog(batch, err);
        else
                batch_send(batch);
}

/* A statement that PostgreSQL permanently refuses is a bug of ours; the message must neither block its partition for
 * ever nor be lost: it becomes a dead letter that gives PostgreSQL's reason. */
static void batch_turn_into_dead_letter(struct batch *batch, const struct err *err)
{
        log_error("PostgreSQL refuses the statement for a message", "topic",
                  batch->deliveries[batch->taken].message->topic, "error", err->message, NULL);
        intake_describe_as_dead(batch->deliveries[batch->taken].described, err);
        batch_send(batch);
}

static bool batch_is_dead_or_nothing(const struct batch *batch)
{
        const char *verdict = json_text(batch->deliveries[batch->taken].described, "verdict");

        return strcmp(verdict, "dead") == 0 || strcmp(verdict, "nothing") == 0;
}

/* What is refused is kept, with its bytes. */
static void batch_send_with_bytes(struct batch *batch)
{
        batch->has_bytes = true;
        batch_send(batch);
}

static void batch_refused(struct batch *batch, const struct err *err)
{
        if (err->class == ERR_OURS)
                batch_wait_for_mending(batch, err);
        else if (batch->under_way > 1)
                batch_divide(batch, err);
        else if (err_is_transient(err) || batch_is_dead_or_nothing(batch))
                batch_wait_for_catalog(batch, err);
        else if (!batch->has_bytes)
                batch_send_with_bytes(batch);
        else
                batch_turn_into_dead_letter(batch, err);
}

static enum intake_result batch_result_of(const char *taken)
{
        if (strcmp(taken, "new") == 0)
                return INTAKE_NEW;
        if (strcmp(taken, "dead") == 0 || strcmp(taken, "conflict") == 0)
                return INTAKE_DEAD;
        if (strcmp(taken, "parked") == 0)
                return INTAKE_PARKED;
        if (strcmp(taken, "behind") == 0)
                return INTAKE_RETRIED;
        return INTAKE_SKIPPED;
}

static void batch_finish_deliveries(struct batch *batch, size_t count)
{
        struct intake *intake = batch->intake;
        struct kafka_message *messages[BATCH_LIMIT];
        bool more;

        for (size_t i = 0; i < count; i++) {
                metric_observe(intake->seconds, (double)(clock_ns() - batch->started_ns) / 1e9);
                messages[i] = batch->deliveries[batch->taken + i].message;
                json_decref(batch->deliveries[batch->taken + i].described);
        }
        batch->taken += count;
        more = batch->taken < batch->count;
        if (!more)
                free(batch);
        for (size_t i = 0; i < count; i++)
                kafka_consumer_done(intake->consumer, messages[i]); /* the last one starts the lane's next batch */
        if (more)
                batch_send(batch);
}

static void batch_taken(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct batch *batch = context;
        struct intake *intake = batch->intake;
        bool facts = false, behind = false;

        if (err != NULL) {
                batch_refused(batch, err);
                return;
        }
        intake_mended(intake);
        FAILPOINT(intake_after_commit, NULL);
        assert(pg_rows_count(rows) == (int)batch->under_way);
        for (size_t i = 0; i < batch->under_way; i++) {
                enum intake_result result = batch_result_of(pg_text(rows, (int)i, "taken"));

                batch_count_results(batch, batch->taken + i, 1, result);
                facts = facts || result == INTAKE_NEW;
                behind = behind || result == INTAKE_RETRIED;
        }
        if (behind) {
                log_warn("the catalog is behind the reader: it was restored; reading again", "topic",
                         batch->deliveries[batch->taken].message->topic, NULL);
                kafka_consumer_rewind(intake->consumer);
        }
        batch_finish_deliveries(batch, batch->under_way);
        if (facts && intake->settings.taken != NULL)
                intake->settings.taken(intake->settings.taken_context);
}

static char *batch_describe(const struct batch *batch)
{
        auto_json *list = json_array();

        for (size_t i = batch->taken; i < batch->taken + batch->under_way; i++) {
                if (batch->has_bytes)
                        intake_add_bytes(batch->deliveries[i].described, batch->deliveries[i].message);
                json_array_append(list, batch->deliveries[i].described);
        }
        return json_print(list);
}

static void batch_send(struct batch *batch)
{
        auto_free char *described = NULL;
        struct err err;

        batch->under_way = batch->one_by_one ? 1 : batch->count - batch->taken;
        if (FAILPOINT(intake_before_commit, &err) < 0) {
                batch_wait_for_catalog(batch, &err);
                return;
        }
        described = batch_describe(batch);
        pg_pool_exec(batch->intake->service->catalog, INTAKE_STATEMENT_TIMEOUT, SQL_TAKE, PARAMS(described),
                     batch_taken, batch);
}

static bool batch_has_key(const struct batch *batch, const struct kafka_message *message)
{
        for (size_t i = 0; i < batch->count; i++) {
                const struct kafka_message *other = batch->deliveries[i].message;

                if (other->key != NULL && message->key != NULL && other->key_length == message->key_length &&
                    memcmp(other->key, message->key, message->key_length) == 0)
                        return true;
        }
        return false;
}

/* Two commands with the same key (that is, tenant) are never sent together. A worker that advances a saga locks first
 * the saga and then the tenant's status; a second command would want the saga while the first holds the status. */
static bool batch_ends_before(const struct batch *batch, const struct kafka_message *message)
{
        const char *together = batch->intake->settings.together;

        return (together == NULL || strcmp(together, message->topic) != 0) && batch_has_key(batch, message);
}

static void batch_add(struct batch *batch, struct kafka_message *message)
{
        batch->deliveries[batch->count].message = message;
        batch->deliveries[batch->count].described = intake_describe(batch->intake, message);
        batch->count++;
}

void intake_take(void *context, struct kafka_message *message)
{
        struct intake *intake = context;
        struct batch *batch = NEW(struct batch);
        const struct kafka_message *next;
        size_t bytes = message->value_length;

        batch->intake = intake;
        batch->started_ns = clock_ns();
        batch_add(batch, message);
        while (batch->count < BATCH_LIMIT && (next = kafka_consumer_peek(intake->consumer, message)) != NULL &&
               !batch_ends_before(batch, next) && bytes + next->value_length <= BATCH_BYTES) {
                bytes += next->value_length;
                message = kafka_consumer_next(intake->consumer, message);
                batch_add(batch, message);
        }
        batch_send(batch);
}

void intake_send_waiting(struct intake *intake)
{
        struct batch *batch = TAKE_PTR(intake->waiting);

        while (batch != NULL) {
                struct batch *next = batch->next;

                batch->next = NULL;
                batch_send(batch);
                batch = next;
        }
}

size_t intake_waiting(const struct intake *intake)
{
        size_t waiting = 0;

        for (const struct batch *b = intake->waiting; b != NULL; b = b->next)
                waiting += b->count - b->taken;
        return waiting;
}

void intake_forget_waiting(struct intake *intake)
{
        struct batch *batch;

        while ((batch = intake->waiting) != NULL) {
                intake->waiting = batch->next;
                for (size_t i = batch->taken; i < batch->count; i++)
                        json_decref(batch->deliveries[i].described);
                free(batch);
        }
}
