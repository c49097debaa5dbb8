/* What may be requested for a tenant: see tenant.h. */
#include "common/contracts/tenant.h"

#include "common/contracts/signup.h"

#define LABELS_LIMIT 20 /* as many as a tenant may have */

static const struct contract_field A_LABEL = { .kind = CONTRACT_NAME, .max = 40 };

static const struct contract_field SIGNUP[] = {
        { .name = "tenant_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "company", .kind = CONTRACT_TEXT, .required = true, .max = 200 },
        { .name = "email", .kind = CONTRACT_EMAIL, .required = true, .max = 254 },
        { .name = "name", .kind = CONTRACT_TEXT, .max = 200 },
        { .name = "subdomain", .kind = CONTRACT_LABEL, .max = 40 },
        { .name = "plan", .kind = CONTRACT_NAME, .max = 40 },
        { .name = "region", .kind = CONTRACT_NAME, .max = 40 },
        { .name = "labels", .kind = CONTRACT_LIST, .max = LABELS_LIMIT, .fields = &A_LABEL },
};

static const struct contract_field COMMAND[] = {
        { .name = "tenant_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "reason", .kind = CONTRACT_TEXT, .max = 500 },
};

static const struct contract_field CONFIRMED_COMMAND[] = {
        { .name = "tenant_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "reason", .kind = CONTRACT_TEXT, .max = 500 },
        { .name = "confirm", .kind = CONTRACT_TEXT, .required = true, .max = 40 },
};

static const struct contract_field RESTORE[] = {
        { .name = "tenant_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "reason", .kind = CONTRACT_TEXT, .max = 500 },
        { .name = "mode", .kind = CONTRACT_CHOICE, .required = true, .choices = "check|beside|in_place" },
        { .name = "backup", .kind = CONTRACT_NAME, .max = 80 }, /* the file's name; the default is the newest */
        { .name = "confirm", .kind = CONTRACT_TEXT, .max = 40 },
};

static const struct contract_field LABEL[] = {
        { .name = "tenant_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "reason", .kind = CONTRACT_TEXT, .max = 500 },
        { .name = "add", .kind = CONTRACT_LIST, .max = LABELS_LIMIT, .fields = &A_LABEL },
        { .name = "remove", .kind = CONTRACT_LIST, .max = LABELS_LIMIT, .fields = &A_LABEL },
};

/* Both lists are short and valid. */
static int tenant_check_label(const json_t *data, struct err *err)
{
        const json_t *add = json_object_get(data, "add"), *remove = json_object_get(data, "remove");
        const json_t *added, *removed;
        size_t i, j;

        if (json_array_size(add) == 0 && json_array_size(remove) == 0)
                return err_field(err, "add", "add or remove must have a label");
        json_array_foreach (add, i, added)
                json_array_foreach (remove, j, removed)
                        if (json_equal(added, removed))
                                return err_field(err, "remove", "%s is in add and in remove",
                                                 json_string_value(removed));
        return 0;
}

static const char *const TENANT_KEY[] = { "tenant_id", NULL };

/* The arguments after the list of fields are further members of the contract. */
#define COMMAND_CONTRACT(command, list, ...)                                                                           \
        {                                                                                                              \
                .type = "tenant." command ".requested.v1", .topic = "tenant.command.v1", .key = TENANT_KEY,            \
                .fields = list, .count = ARRAY_SIZE(list), __VA_ARGS__                                                 \
        }

const struct contract TENANT_CONTRACTS[] = {
        { .type = "tenant.signup.requested.v1",
          .topic = "tenant.signup.v1",
          .key = TENANT_KEY,
          .fields = SIGNUP,
          .count = ARRAY_SIZE(SIGNUP),
          .complete = signup_normalize },
        COMMAND_CONTRACT("suspend", COMMAND),
        COMMAND_CONTRACT("resume", COMMAND),
        COMMAND_CONTRACT("archive", COMMAND),
        COMMAND_CONTRACT("deprovision", CONFIRMED_COMMAND),
        COMMAND_CONTRACT("rotate_credentials", COMMAND),
        COMMAND_CONTRACT("retry", COMMAND),
        COMMAND_CONTRACT("backup", COMMAND),
        COMMAND_CONTRACT("restore", RESTORE),
        COMMAND_CONTRACT("label", LABEL, .check = tenant_check_label),
        COMMAND_CONTRACT("resend_invite", COMMAND),
        COMMAND_CONTRACT("invite_link", COMMAND),
        { .type = NULL },
};
