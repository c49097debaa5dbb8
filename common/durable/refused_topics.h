/* Topics for which Kafka accepts nothing (the service they belong to is gone, or we may not write there): each is left
 * out for a while, for longer and longer, with an alert, so that what is for the others continues. */
#pragma once

#include "common/service/service.h"

struct refused_topics;

struct refused_topics *refused_topics_new(struct service *service);
/* NULL is fine. */
void refused_topics_free(struct refused_topics *refused);
/* Kafka has refused a message for the topic: reported once, until the topic's turn comes again. False if too many are
 * left out already. */
bool refused_topics_add(struct refused_topics *refused, const char *topic, const struct err *err);
/* Kafka has accepted one. */
void refused_topics_remove(struct refused_topics *refused, const char *topic);
/* Left out for now. */
bool refused_topics_has(const struct refused_topics *refused, const char *topic);
/* Those left out for now, as a JSON list. The caller frees. */
char *refused_topics_list(const struct refused_topics *refused);
