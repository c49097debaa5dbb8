/* UTF-8, as strictly as PostgreSQL takes it: no overlong forms, no surrogates, nothing behind U+10FFFF. */
#pragma once

#include <stddef.h>

/* How many bytes the character at text, of which length are there, has; 0 where there is none: cut off, or of another
 * encoding. */
size_t utf8_character_length(const char *text, size_t length);
/* How many of the bytes are whole characters up to the first that is none; length where all are. */
size_t utf8_valid_length(const char *text, size_t length);
