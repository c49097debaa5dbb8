/* Identifiers: UUIDs as lower-case text. */
#pragma once

#include "common/base/macros.h"

#define ID_LENGTH 36

struct id {
        char text[ID_LENGTH + 1];
};

/* A new UUID version 7 (RFC 9562): ordered by time. */
struct id id_new(void);
/* The same parts always give the same UUID version 8 (SHA-256 of the length-prefixed parts). Ends with NULL. */
struct id id_derive(const char *part, ...) __attribute__((sentinel));
/* True for 8-4-4-4-12 hexadecimal digits in lower case. */
bool id_is_valid(const char *text);
/* All ids that begin with these characters lie between *ret_first and *ret_last. False if there can be none. */
bool id_span(const char *beginning, struct id *ret_first, struct id *ret_last);
