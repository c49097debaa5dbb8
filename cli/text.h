/* Text for people: made safe for a terminal, measured and shortened by its width there. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A copy in which control characters, and those that change the direction of writing, are shown as \xNN; NULL gives "".
 * The caller frees. Everything received from a server goes through here before a terminal sees it. */
char *text_safe(const char *text);
/* The same for any bytes; invalid UTF-8 is shown as \xNN too. lines keeps tabs and line ends. */
char *text_safe_bytes(const void *bytes, size_t length, bool lines);
/* Columns that a safe text takes on a terminal: wide characters take two, combining accents none. */
size_t text_width(const char *text);
/* As much of a safe text as fits width columns; an ellipsis marks that it was shortened. The caller frees. */
char *text_cut(const char *text, int width);
/* An error's detail, safe; one that was truncated at its origin ends with an ellipsis. The caller frees. */
char *text_detail(const char *detail);
/* The same as "FIELD: DETAIL", without the field (NULL: none) if the detail already names it. */
char *text_refusal(const char *field, const char *detail);
/* "2026-01-31 12:00:03" of "2026-01-31T12:00:03.123Z"; "-" for NULL. The caller frees. */
char *text_time(const char *time);
