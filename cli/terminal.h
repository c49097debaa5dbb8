/* What is shown to people: text made safe for a terminal, tables, times, progress bars; and JSON for machines. */
#pragma once

#include "common/base/json.h"

#include <stdio.h>

bool terminal_is(FILE *stream);
/* True once whoever read our standard output through a pipe has gone: what follows for ever then ends. */
bool terminal_reader_gone(void);
int terminal_width(void);
int terminal_height(void);

/* A copy in which control characters, and what changes the direction of writing, stand as \xNN; NULL gives "". The
 * caller frees. Everything that a server sent goes through here before a terminal sees it. */
char *text_safe(const char *text);
/* The same for any bytes; what is no UTF-8 stands as \xNN too. lines keeps tabs and line ends. */
char *text_safe_bytes(const void *bytes, size_t length, bool lines);
/* Characters a safe text takes on a terminal (wide ones count as one). */
size_t text_width(const char *text);
/* As much of a safe text as width characters hold; what was cut ends with an ellipsis. The caller frees. */
char *text_cut(const char *text, int width);
/* An error's detail, safe; one that was cut where it was made ends with an ellipsis. The caller frees. */
char *text_detail(const char *detail);
/* The same as "FIELD: DETAIL", without the field (NULL: none) where the detail names it already. */
char *text_refusal(const char *field, const char *detail);
/* "2026-01-31 12:00:03" of "2026-01-31T12:00:03.123Z"; "-" for NULL. The caller frees. */
char *text_time(const char *time);

/* value (borrowed), indented on a terminal, one line elsewhere. */
void print_json(const json_t *value);
/* Always one line, flushed: for streams. */
void print_json_line(const json_t *value);
/* "name   value", one line; left out for a NULL value. */
void print_pair(const char *name, const char *value);

struct table;
/* Headings end with NULL and are borrowed. */
struct table *table_new(const char *heading, ...) __attribute__((sentinel));
/* As many cells as there are headings, copied and made safe; NULL or empty is shown as "-". */
void table_add(struct table *table, ...);
size_t table_rows(const struct table *table);
/* Prints to standard output and frees. */
void table_print(struct table *table);

/* "[#####-----]  45 %" into out. */
void progress_bar(char *out, size_t size, int percent);
/* Escape sequence that begins the colour of a state or verdict, "" where there is none or no colours are wanted. */
const char *colour_of(const char *word);
const char *colour_end(void);
