/* Topics for which Kafka accepts nothing: see refused_topics.h. */
#include "common/durable/refused_topics.h"

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/base/memory.h"

#include <string.h>

#define LIMIT   64
#define FIRST   SECONDS(1)
#define LONGEST MINUTES(5)
#define TIMEOUT SECONDS(10)

static const char SQL_REFUSED[] = "select catalog.topic_refused($1, $2)";

struct refused_topic {
        char *topic; /* NULL = unused entry */
        int64_t until, delay;
};

struct refused_topics {
        struct service *service;
        struct refused_topic items[LIMIT];
};

struct refused_topics *refused_topics_new(struct service *service)
{
        struct refused_topics *refused = NEW(struct refused_topics);

        refused->service = service;
        return refused;
}

void refused_topics_free(struct refused_topics *refused)
{
        for (size_t i = 0; refused != NULL && i < LIMIT; i++)
                free(refused->items[i].topic);
        free(refused);
}

static void refused_recorded(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        if (err != NULL)
                log_warn("an alert could not be raised", "cause", "topic", "error", err->message, NULL);
}

static void refused_record(struct refused_topics *refused, const char *topic, const char *why)
{
        pg_pool_exec(refused->service->catalog, TIMEOUT, SQL_REFUSED, PARAMS(topic, why), refused_recorded, NULL);
}

/* The topic's entry, or an unused one; NULL if there is neither. */
static struct refused_topic *refused_find(struct refused_topics *refused, const char *topic)
{
        struct refused_topic *unused = NULL;

        for (size_t i = 0; i < LIMIT; i++) {
                struct refused_topic *item = &refused->items[i];

                if (item->topic == NULL)
                        unused = item;
                else if (strcmp(item->topic, topic) == 0)
                        return item;
        }
        return unused;
}

bool refused_topics_add(struct refused_topics *refused, const char *topic, const struct err *err)
{
        struct refused_topic *item = refused_find(refused, topic);
        int64_t now = clock_boot_ms();

        if (item == NULL)
                return false;
        if (now < item->until)
                return true;
        if (item->topic == NULL)
                *item = (struct refused_topic){ .topic = mem_copy_text(topic) };
        item->delay = item->delay ? MIN(2 * item->delay, LONGEST) : FIRST;
        item->until = now + item->delay;
        log_warn("Kafka accepts nothing for a topic; its messages wait in the catalog", "topic", topic, "error",
                 err->message, NULL);
        refused_record(refused, topic, err->message);
        return true;
}

static bool refused_is_out(const struct refused_topic *item)
{
        return item->topic != NULL && clock_boot_ms() < item->until;
}

bool refused_topics_has(const struct refused_topics *refused, const char *topic)
{
        for (size_t i = 0; i < LIMIT; i++)
                if (refused_is_out(&refused->items[i]) && strcmp(refused->items[i].topic, topic) == 0)
                        return true;
        return false;
}

void refused_topics_remove(struct refused_topics *refused, const char *topic)
{
        struct refused_topic *item = refused_find(refused, topic);

        if (item == NULL || item->topic == NULL)
                return;
        free(item->topic);
        *item = (struct refused_topic){ .topic = NULL };
        refused_record(refused, topic, NULL);
}

char *refused_topics_list(const struct refused_topics *refused)
{
        auto_json *list = json_array();

        for (size_t i = 0; i < LIMIT; i++)
                if (refused_is_out(&refused->items[i]))
                        json_array_append_new(list, json_string(refused->items[i].topic));
        return json_print(list);
}
