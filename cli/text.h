/* Text for people: made safe for a terminal, measured and cut by what it takes there. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A copy in which control characters, and what changes the direction of writing, stand as \xNN; NULL gives "". The
 * caller frees. Everything that a server sent goes through here before a terminal sees it. */
char *text_safe(const char *text);
/* The same for any bytes; what is no UTF-8 stands as \xNN too. lines keeps tabs and line ends. */
char *text_safe_bytes(const void *bytes, size_t length, bool lines);
/* Columns that a safe text takes on a terminal: wide letters take two, accents of their own none. */
size_t text_width(const char *text);
/* As much of a safe text as width columns hold; what was cut ends with an ellipsis. The caller frees. */
char *text_cut(const char *text, int width);
/* An error's detail, safe; one that was cut where it was made ends with an ellipsis. The caller frees. */
char *text_detail(const char *detail);
/* The same as "FIELD: DETAIL", without the field (NULL: none) where the detail names it already. */
char *text_refusal(const char *field, const char *detail);
/* "2026-01-31 12:00:03" of "2026-01-31T12:00:03.123Z"; "-" for NULL. The caller frees. */
char *text_time(const char *time);
