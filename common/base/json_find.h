/* A few values out of a JSON text, without building the rest: for who must know little of much. */
#pragma once

#include "common/base/json.h"

/* What is looked for. The table of an object's members ends with a name that is NULL. */
struct json_wanted {
        const char *name;
        const struct json_wanted *members; /* what is looked for within, should it be an object; or NULL */
        size_t place;                      /* in the array of what is found */
};

enum json_found_type {
        JSON_FOUND_NOTHING, /* it is missing, or neither a text nor true or false */
        JSON_FOUND_TEXT,
        JSON_FOUND_TRUE,
        JSON_FOUND_FALSE,
};

struct json_found {
        enum json_found_type type;
        const char *text; /* not terminated */
        size_t length;
};

/* Finds the members of the object that text is; found has a place for each, all empty. Names that are given twice are
 * seen only among the wanted ones: the rest is left to whoever reads it. *ret is what texts were borrowed from besides
 * text itself, or NULL: released by the caller, after them. Returns 0, or -ERR_INPUT as json_parse does. */
int json_find(const char *text, size_t length, const struct json_wanted *members, struct json_found *found,
              json_t **ret, struct err *err);

/* The two ways in which it is done; in either found is as above. */

/* In one pass over the bytes. False where the text is not JSON, or is written in a way that takes more than a pass:
 * escapes in what is wanted, large numbers, deep nesting. */
bool json_scan(const char *text, size_t length, const struct json_wanted *members, struct json_found *found);
/* From what json_parse made of it. */
void json_pick(const json_t *value, const struct json_wanted *members, struct json_found *found);
