/* Output for people: pairs, progress bars, colours; and JSON for machines. */
#pragma once

#include "cli/text.h"
#include "common/base/json.h"

#include <stdio.h>

bool terminal_is(FILE *stream);
/* True once the reader of our standard output pipe is gone: commands that follow something then end. */
bool terminal_reader_gone(void);
int terminal_width(void);
int terminal_height(void);
/* True once after each change of the terminal's size. The first call starts watching for them. */
bool terminal_resized(void);

/* Prints value (borrowed), indented on a terminal, on one line elsewhere; or as YAML, if -o says so. */
void print_json(const json_t *value);
/* Always on one line, or as a separate YAML document; flushed: for streams. */
void print_json_line(const json_t *value);
/* "name   value" on one line; nothing for a NULL value. */
void print_pair(const char *name, const char *value);

#define PROGRESS_BAR_WIDTH 20 /* at most */
/* Writes "[#####-----]  45 %" to out, with that many columns between the brackets; 0: only the number. */
void progress_bar(char *out, size_t size, int width, int percent);
/* Escape sequence for the colour of a state or verdict; "" if it has none or colours are off. */
const char *colour_of(const char *word);
const char *colour_end(void);
