/* What is shown to people: pairs, progress bars, colours; and JSON for machines. */
#pragma once

#include "cli/text.h"
#include "common/base/json.h"

#include <stdio.h>

bool terminal_is(FILE *stream);
/* True once whoever read our standard output through a pipe has gone: what follows for ever then ends. */
bool terminal_reader_gone(void);
int terminal_width(void);
int terminal_height(void);
/* True once after each change of the terminal's size. The first call begins to look for them. */
bool terminal_resized(void);

/* value (borrowed), indented on a terminal, one line elsewhere; or as YAML, where -o says so. */
void print_json(const json_t *value);
/* Always one line, or a YAML document of its own; flushed: for streams. */
void print_json_line(const json_t *value);
/* "name   value", one line; left out for a NULL value. */
void print_pair(const char *name, const char *value);

#define PROGRESS_BAR_WIDTH 20 /* at most */
/* "[#####-----]  45 %" into out, with so many columns between the brackets; 0: only the number. */
void progress_bar(char *out, size_t size, int width, int percent);
/* Escape sequence that begins the colour of a state or verdict, "" where there is none or no colours are wanted. */
const char *colour_of(const char *word);
const char *colour_end(void);
