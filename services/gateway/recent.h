/* The last idempotency keys this process has seen, so that one key with two bodies is noticed without PostgreSQL. */
#pragma once

#include "common/base/id.h"

struct recent;

struct recent *recent_new(void);
void recent_free(struct recent *recent);
/* Records the pair. Returns false if the operation was recorded before with another hash. */
bool recent_note(struct recent *recent, const char *operation_id, const char *body_hash);
/* The catalog is authoritative: this is the hash that the operation was taken with. */
void recent_learn(struct recent *recent, const char *operation_id, const char *body_hash);
