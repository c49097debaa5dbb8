/* Stripe's events: whatever is signed becomes an event that can be kept, or is refused. */
#include "tests/fuzz/fuzz.h"

#include "common/contracts/stripe_event.h"

#include <string.h>

static void check_kept(const json_t *value)
{
        const char *text = json_string_value(value), *name;
        const json_t *member;
        size_t i;

        MUST(text == NULL || (strncmp(text, "https://", 8) != 0 && strncmp(text, "http://", 7) != 0));
        json_array_foreach (value, i, member)
                check_kept(member);
        json_object_foreach ((json_t *)(uintptr_t)value, name, member) {
                MUST(strstr(name, "email") == NULL && strstr(name, "address") == NULL && strcmp(name, "card") != 0);
                check_kept(member);
        }
}

static void check_object(const json_t *object)
{
        check_kept(json_object_get(object, "body"));
        MUST(json_text(object, "kind") != NULL && json_text(object, "id") != NULL);
        MUST(strlen(json_text(object, "digest")) == 64);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
        auto_json *event = NULL, *read = NULL;
        struct err err;

        if (json_parse((const char *)bytes, length, &event, NULL) < 0)
                return 0;
        if (stripe_event_read(event, &read, &err) < 0) {
                MUST(err.code[0] != '\0');
                return 0;
        }
        MUST(json_text(read, "id") != NULL && json_text(read, "type") != NULL && json_text(read, "digest") != NULL);
        if (json_is_object(json_object_get(read, "object")) && !json_flag(read, "is_thin"))
                check_object(json_object_get(read, "object"));
        return 0;
}
