/* Topics for which Kafka accepts nothing: each is left out for a while, longer each time, so that messages for the
 * others go on. */
#pragma once

#include "common/base/macros.h"

#define REFUSED_TOPICS_LIMIT 64

struct refused_topics {
        struct refused_topic {
                char *topic; /* NULL = unused entry */
                int64_t until, delay;
        } entries[REFUSED_TOPICS_LIMIT];
};

/* Leaves the topic out from now on. False if that is known already, or if there is no room: then it is tried again all
 * the time. */
bool refused_topics_add(struct refused_topics *refused, const char *topic);
/* Kafka accepts messages for it. True if it was refused before. */
bool refused_topics_remove(struct refused_topics *refused, const char *topic);
/* The topics to be left out for now, as a JSON array; the caller frees. */
char *refused_topics_list(const struct refused_topics *refused);
void refused_topics_release(struct refused_topics *refused);
