/* One error: a class that decides what happens next, a short code for machines, a sentence for a person. */
#pragma once

#include "common/base/macros.h"

enum err_class {
        ERR_NONE = 0,
        ERR_INPUT,     /* the request is wrong; repeating it will not help */
        ERR_AUTH,      /* our credential is refused */
        ERR_CONFLICT,  /* somebody else has it */
        ERR_BUSY,      /* not now: retry later */
        ERR_GONE,      /* what we act on no longer exists */
        ERR_PERMANENT, /* the other side refuses permanently */
        ERR_INTERNAL,  /* a defect of ours */
        ERR_OURS,      /* the operator must fix something: a function or right missing in the catalog, a token */
};

struct err {
        enum err_class class;
        char code[48];       /* snake_case, stable, for machines: "slug_taken" */
        char field[64];      /* the input that is wrong, or empty */
        char message[500];   /* a sentence, without secrets */
        int64_t retry_after; /* milliseconds the other side asked us to wait, 0 = it did not say */
};

/* Fills *err (when not NULL) and returns -class, so that callers can write: return err_set(...). */
int err_set(struct err *err, enum err_class class, const char *code, const char *format, ...) PRINTF(4, 5);
/* The same for wrong input, naming the field. Returns -ERR_INPUT. */
int err_field(struct err *err, const char *field, const char *format, ...) PRINTF(3, 4);
const char *err_class_name(enum err_class class);
/* True where trying again later may help. */
bool err_is_transient(const struct err *err);
