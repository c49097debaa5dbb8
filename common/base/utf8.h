/* UTF-8, as strictly as PostgreSQL takes it: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
#pragma once

#include <stddef.h>

/* The length in bytes of the character at text, of which length bytes are available; 0 if it is truncated or
 * invalid. */
size_t utf8_character_length(const char *text, size_t length);
/* How many bytes form complete characters before the first invalid one; length if all do. */
size_t utf8_valid_length(const char *text, size_t length);
