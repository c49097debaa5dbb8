/* SQL as PostgreSQL's scanner sees it, as far as migrations need it: words, quoted pieces, symbols; comments are
 * skipped. */
#pragma once

#include "common/base/macros.h"

enum token_kind {
        TOKEN_END,
        TOKEN_WORD,        /* a keyword or a plain name */
        TOKEN_QUOTED_NAME, /* "name" */
        TOKEN_TEXT,        /* 'text', E'text', $tag$text$tag$ */
        TOKEN_MARK,        /* any other character */
};

struct token {
        enum token_kind kind;
        const char *at;
        size_t length;
        bool open; /* the text ends inside a quote or a comment (a comment: in TOKEN_END) */
};

/* The token at *at, which is moved past it. end NULL: the text extends to its NUL. The token borrows the text. */
struct token token_next(const char **at, const char *end);
/* Whether it is this keyword, in any case; or one of a list that ends with NULL; or this character. */
bool token_is(const struct token *token, const char *word);
bool token_is_one_of(const struct token *token, const char *const *words);
bool token_is_mark(const struct token *token, char mark);
