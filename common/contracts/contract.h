/* The promises about event data: one table per event type, one validator for all. The gateway checks requests with it,
 * every consumer checks events with it, because others produce without the gateway. contracts/schemas/ holds the same
 * promises as JSON Schema; a test holds the two against each other. */
#pragma once

#include "common/base/json.h"

enum contract_kind {
        CONTRACT_TEXT,  /* UTF-8 without control characters, 1 to max characters, not only blanks */
        CONTRACT_UUID,  /* lower case */
        CONTRACT_EMAIL, /* one plain address */
        CONTRACT_LABEL, /* a DNS label: 3 to max of a-z, 0-9 and inner hyphens */
        CONTRACT_NAME,  /* 1 to max of a-z, 0-9, hyphen, underscore, dot */
};

struct contract_field {
        const char *name;
        enum contract_kind kind;
        bool required;
        size_t max;
};

struct contract {
        const char *type;  /* of the event */
        const char *topic; /* where it travels */
        const struct contract_field *fields;
        size_t count;
};

/* All contracts of events that come in; ends with a NULL type. */
extern const struct contract CONTRACTS[];

/* NULL for an unknown type. */
const struct contract *contract_find(const char *type);
/* The one type of a topic, or NULL where it has several (then bare JSON is not accepted there). */
const char *contract_only_type(const char *topic);

/* Checks data against the contract. key is the message key: the tenant id, which data.tenant_id must equal. Returns 0
 * and *ret, a copy with tenant_id set and what follows from the data added (a slug for a signup), released by the
 * caller; or -ERR_INPUT naming the field. */
int contract_check(const struct contract *contract, const char *key, const json_t *data, json_t **ret, struct err *err);
