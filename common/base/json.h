/* Reading and writing JSON with jansson: strict parsing, and small readers that save a line each. */
#pragma once

#include "common/base/err.h"

#include <jansson.h>

static inline void json_release(json_t **value)
{
        json_decref(*value);
}
#define auto_json __attribute__((cleanup(json_release))) json_t

/* Parses exactly one JSON value; duplicate names, invalid UTF-8 and NUL characters are refused. The caller releases
 * *ret with json_decref. Returns 0 or -ERR_INPUT with line and column. */
int json_parse(const char *text, size_t length, json_t **ret, struct err *err);
/* Compact text; the caller frees. */
char *json_print(const json_t *value);
/* The text of a member, borrowed from object; NULL if it is missing or not a text. */
const char *json_text(const json_t *object, const char *name);
/* Whether a member is this text; NULL is none. */
bool json_text_is(const json_t *object, const char *name, const char *text);
/* The number of a member; fallback if it is missing or not a whole number. */
int64_t json_number(const json_t *object, const char *name, int64_t fallback);
bool json_flag(const json_t *object, const char *name);
/* {code, class, detail}, as the catalog keeps errors; the caller releases. */
json_t *json_of_error(const struct err *err);
/* Sets or, for a NULL text, sets null. */
void json_set_text(json_t *object, const char *name, const char *text);
