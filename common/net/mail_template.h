/* The words of a mail, from files: NAME.txt, whose first line is "Subject: ...", then an empty line, then the text; and
 * NAME.html. In both, {{field}} is a value, and {{#field}}...{{/field}} is there only if the value is not empty: a part
 * of Mustache (https://mustache.github.io/mustache.5.html), since Debian has no library of it for C. */
#pragma once

#include "common/base/err.h"

/* A kind of mail, known when the program is built. */
struct mail_kind {
        const char *name;          /* of its files */
        const char *const *fields; /* that it may use; ends with NULL */
        const char *text, *html;   /* ours, where the operator has none of their own */
};

struct mail_template;

/* Values of the fields; a field that is missing, or NULL, is empty. Ends with a NULL field. */
struct mail_value {
        const char *field, *value;
};

/* All parts are the caller's, who releases them with mail_words_release. */
struct mail_words {
        char *subject, *text, *html;
};

/* Reads the kind's files in directory; where it has none of them, or is NULL, ours. Returns 0 and *ret (freed with
 * mail_template_free); or -ERR_INPUT: one of the two is missing or cannot be read, has more than 64 KiB, is no UTF-8,
 * or is wrong, with file and line. */
int mail_template_load(const struct mail_kind *kind, const char *directory, struct mail_template **ret,
                       struct err *err);
void mail_template_free(struct mail_template *template);
/* In HTML, values are escaped; in a subject, whatever would end its line is a blank. */
void mail_template_fill(const struct mail_template *template, const struct mail_value *values, struct mail_words *ret);
void mail_words_release(struct mail_words *words);
