/* The last idempotency keys this process has seen: see recent.h. */
#include "services/gateway/recent.h"

#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>
#include <uthash.h>

#define RECENT_LIMIT 10000

struct entry {
        char operation[ID_LENGTH + 1];
        char hash[65];
        UT_hash_handle hh;
};

struct recent {
        struct entry *entries;
};

struct recent *recent_new(void)
{
        return NEW(struct recent);
}

void recent_free(struct recent *recent)
{
        struct entry *entry, *next;

        if (recent == NULL)
                return;
        HASH_ITER (hh, recent->entries, entry, next) {
                HASH_DEL(recent->entries, entry);
                free(entry);
        }
        free(recent);
}

void recent_learn(struct recent *recent, const char *operation_id, const char *body_hash)
{
        struct entry *entry;

        HASH_FIND_STR(recent->entries, operation_id, entry);
        if (entry != NULL)
                snprintf(entry->hash, sizeof(entry->hash), "%s", body_hash);
}

bool recent_note(struct recent *recent, const char *operation_id, const char *body_hash)
{
        struct entry *entry;

        HASH_FIND_STR(recent->entries, operation_id, entry);
        if (entry != NULL)
                return strcmp(entry->hash, body_hash) == 0;
        entry = NEW(struct entry);
        memcpy(entry->operation, operation_id, sizeof(entry->operation));
        memcpy(entry->hash, body_hash, sizeof(entry->hash));
        HASH_ADD_STR(recent->entries, operation, entry);
        if (HASH_COUNT(recent->entries) > RECENT_LIMIT) {
                entry = recent->entries;
                HASH_DEL(recent->entries, entry);
                free(entry);
        }
        return true;
}
