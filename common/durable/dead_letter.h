/* A refused message, from its row in the catalog, prepared to be produced again. */
#pragma once

#include "common/kafka/producer.h"
#include "common/pg/pg.h"

#define DEAD_LETTER_OURS 4

struct dead_letter {
        struct kafka_record record; /* topic, key, value and headers as received; all but the topic are owned by it */
        struct kafka_header *headers;
        unsigned char **owned;
        size_t owned_count, room; /* headers, including ours */
};

/* Fills *ret from the columns topic, message_key, value (base64) and headers. The topic is borrowed from rows. */
void dead_letter_read(const struct pg_rows *rows, int row, struct dead_letter *ret);
/* Adds one of our headers, at most DEAD_LETTER_OURS; borrows both texts. A NULL value adds nothing. */
void dead_letter_add(struct dead_letter *letter, const char *name, const char *value);
void dead_letter_release(struct dead_letter *letter);
