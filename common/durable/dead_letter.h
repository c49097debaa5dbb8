/* A message that was refused, as a row of the catalog keeps it: made ready to be produced once more. */
#pragma once

#include "common/kafka/producer.h"
#include "common/pg/pg.h"

#define DEAD_LETTER_OURS 4

struct dead_letter {
        struct kafka_record record; /* topic, key, value and headers as they came; all owned here but the topic */
        struct kafka_header *headers;
        unsigned char **owned;
        size_t owned_count, room; /* for headers, with ours */
};

/* Fills *ret from the columns topic, message_key, value (base64) and headers. The topic is borrowed from rows. */
void dead_letter_read(const struct pg_rows *rows, int row, struct dead_letter *ret);
/* Adds a header of ours, at most DEAD_LETTER_OURS; borrows both texts. A value of NULL adds nothing. */
void dead_letter_add(struct dead_letter *letter, const char *name, const char *value);
void dead_letter_release(struct dead_letter *letter);
