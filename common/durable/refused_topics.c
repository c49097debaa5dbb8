/* Topics for which Kafka accepts nothing: see refused_topics.h. */
#include "common/durable/refused_topics.h"

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/memory.h"

#include <string.h>

#define FIRST_DELAY SECONDS(1)
#define MOST_DELAY  MINUTES(5)

/* The topic's entry, or else an unused one; NULL if there is neither. */
static struct refused_topic *refused_find(struct refused_topics *refused, const char *topic)
{
        struct refused_topic *unused = NULL;

        for (size_t i = 0; i < REFUSED_TOPICS_LIMIT; i++) {
                struct refused_topic *entry = &refused->entries[i];

                if (entry->topic == NULL)
                        unused = entry;
                else if (strcmp(entry->topic, topic) == 0)
                        return entry;
        }
        return unused;
}

bool refused_topics_add(struct refused_topics *refused, const char *topic)
{
        struct refused_topic *entry = refused_find(refused, topic);
        int64_t now = clock_boot_ms();

        if (entry == NULL || (entry->topic != NULL && now < entry->until))
                return false;
        if (entry->topic == NULL)
                *entry = (struct refused_topic){ .topic = mem_copy_text(topic) };
        entry->delay = entry->delay ? MIN(2 * entry->delay, MOST_DELAY) : FIRST_DELAY;
        entry->until = now + entry->delay;
        return true;
}

bool refused_topics_remove(struct refused_topics *refused, const char *topic)
{
        struct refused_topic *entry = refused_find(refused, topic);

        if (entry == NULL || entry->topic == NULL)
                return false;
        free(entry->topic);
        *entry = (struct refused_topic){ .topic = NULL };
        return true;
}

char *refused_topics_list(const struct refused_topics *refused)
{
        auto_json *list = json_array();

        for (size_t i = 0; i < REFUSED_TOPICS_LIMIT; i++) {
                const struct refused_topic *entry = &refused->entries[i];

                if (entry->topic != NULL && clock_boot_ms() < entry->until)
                        json_array_append_new(list, json_string(entry->topic));
        }
        return json_print(list);
}

void refused_topics_release(struct refused_topics *refused)
{
        for (size_t i = 0; i < REFUSED_TOPICS_LIMIT; i++)
                free(refused->entries[i].topic);
}
