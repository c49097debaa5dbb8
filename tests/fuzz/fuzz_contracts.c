/* Request bodies against every contract: what is taken keeps the promises, what is refused can be told in JSON. */
#include "tests/fuzz/fuzz.h"

#include "common/base/id.h"
#include "common/contracts/tenant.h"

#define TENANT "01890a5d-ac96-774b-bcce-b302099a8057"

static void check_text(const json_t *value)
{
        MUST(json_is_string(value));
        MUST(strlen(json_string_value(value)) == json_string_length(value));
        MUST(json_string_length(value) > 0 && json_string_length(value) <= 2000);
        MUST(strpbrk(json_string_value(value), "\n\r\t\x1b\x7f") == NULL);
}

static void check_taken(const struct contract *contract, const json_t *data)
{
        const char *name;
        json_t *value, *element, *again = NULL;
        size_t i;

        MUST(strcmp(json_text(data, "tenant_id"), TENANT) == 0);
        json_object_foreach ((json_t *)(uintptr_t)data, name, value) {
                json_array_foreach (value, i, element)
                        check_text(element);
                MUST(!json_is_array(value) || json_array_size(value) <= 20);
                if (!json_is_array(value))
                        check_text(value);
        }
        if (json_object_get(data, "slug") == NULL)
                return;
        MUST(strspn(json_text(data, "slug"), "abcdefghijklmnopqrstuvwxyz0123456789-") ==
             strlen(json_text(data, "slug")));
        json_object_del((json_t *)(uintptr_t)data, "slug");
        MUST(contract_check(contract, TENANT, data, &again, NULL) == 0); /* what came out goes in again */
        json_decref(again);
}

static void check_refusal(const struct err *err)
{
        json_t *problem = json_pack("{s:s, s:s, s:s}", "code", err->code, "field", err->field, "detail", err->message);

        MUST(problem != NULL);
        MUST(err->class == ERR_INPUT && err->message[0] != '\0');
        json_decref(problem);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
        struct err err;
        json_t *data = NULL;

        if (json_parse((const char *)bytes, length, &data, &err) < 0) {
                check_refusal(&err);
                return 0;
        }
        for (const struct contract *contract = TENANT_CONTRACTS; contract->type != NULL; contract++) {
                json_t *taken = NULL;

                if (contract_check(contract, TENANT, data, &taken, &err) < 0)
                        check_refusal(&err);
                else
                        check_taken(contract, taken);
                json_decref(taken);
        }
        json_decref(data);
        return 0;
}
