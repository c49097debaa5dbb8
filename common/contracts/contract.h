/* The contracts of event data: one table of fields per event type, one validator for all. The gateway checks requests
 * with it, and every consumer checks events with it, because others produce without the gateway. contracts/schemas/ has
 * the same contracts as JSON Schema; a test compares the two. */
#pragma once

#include "common/base/json.h"

enum contract_kind {
        CONTRACT_TEXT,    /* UTF-8 without control characters, 1 to max characters, not only blanks */
        CONTRACT_SOURCE,  /* the same, but with line breaks and tabs: SQL, for instance */
        CONTRACT_UUID,    /* lower case */
        CONTRACT_EMAIL,   /* one plain address; its domain may be an international one */
        CONTRACT_LABEL,   /* a DNS label: 3 to max of a-z, 0-9 and inner hyphens */
        CONTRACT_NAME,    /* 1 to max of a-z, 0-9, hyphen, underscore, dot */
        CONTRACT_CHOICE,  /* one of choices */
        CONTRACT_NUMBER,  /* least to most */
        CONTRACT_INTEGER, /* a whole number, least to most */
        CONTRACT_BOOLEAN,
        CONTRACT_BYTES,    /* up to max bytes, in base64 */
        CONTRACT_TIME,     /* RFC 3339 in UTC, "2026-01-31T12:00:00Z" or with milliseconds; a day that exists */
        CONTRACT_DURATION, /* as in base/duration.h, least to most milliseconds */
        CONTRACT_LIST,     /* up to max elements, each described by the one field in `fields` (its name is not used) */
        CONTRACT_OBJECT,   /* with these fields and no others */
};

struct contract_field {
        const char *name;
        enum contract_kind kind;
        bool required;
        size_t max;
        double least, most;
        const char *choices; /* separated by | */
        const struct contract_field *fields;
        size_t count;
};

struct contract {
        const char *type;  /* of the event */
        const char *topic; /* where it is sent, and the only topic it is accepted from */
        /* The fields of the data that make up the message key: one field's value (which the data may leave out, since
         * it follows from the key), or several separated by commas. Ends with NULL. NULL: the key is not made of
         * fields, and is ignored. */
        const char *const *key;
        bool is_raw; /* the data is sent as bytes (application/octet-stream) and read as its only field, body_base64 */
        const struct contract_field *fields;
        size_t count;
        /* What the fields cannot say, being about several of them; called when each is valid. Returns 0 or -ERR_INPUT
         * naming one of them. NULL: nothing more. */
        int (*check)(const json_t *data, struct err *err);
        /* Adds what is derived from the data, or puts that in its place. Returns 0 or -ERR_INPUT; NULL: nothing is. */
        int (*complete)(json_t *data, struct err *err);
        /* The field of the completed data by which deliveries of one event are known from another event with its id;
         * NULL: by the whole data. */
        const char *digest;
};

/* The contract of a type, in a list that ends with a NULL type; NULL for an unknown one. */
const struct contract *contract_find(const struct contract *list, const char *type);
/* The only type of a topic, or NULL if it has several (then bare JSON is not accepted there). */
const char *contract_only_type(const struct contract *list, const char *topic);
/* Whether an event of this contract may come from the topic: the right to write to one topic does not imply the rights
 * of another. Returns 0 or -ERR_INPUT "wrong_topic". */
int contract_check_topic(const struct contract *contract, const char *topic, struct err *err);
/* Whether the data came in the form required by the contract: as bytes, or as JSON. Returns 0 or -ERR_INPUT
 * (content-type). */
int contract_check_form(const struct contract *contract, bool is_raw, struct err *err);
/* Checks data and key against the contract. key may be NULL (and is then refused if the contract defines it). Returns 0
 * and *ret, a copy with the fields of the key set and completed, released by the caller; or -ERR_INPUT naming the field
 * (as a dotted path if it is inside another). */
int contract_check(const struct contract *contract, const char *key, const json_t *data, json_t **ret, struct err *err);
