/* `tenantry migrate register`, `show` and `withdraw`: the register of migration files. */
#include "cli/api.h"
#include "cli/listing.h"
#include "cli/migrate.h"
#include "cli/pages.h"
#include "cli/terminal.h"
#include "cli/wait.h"
#include "common/base/buf.h"
#include "common/base/memory.h"
#include "common/migration/migration.h"

#include <stdio.h>
#include <string.h>

#define FILES     "/api/admin/migrations/files"
#define DIRECTORY "migrations"

static char *register_notes_cell(const json_t *file)
{
        json_t *finding;
        size_t i, breaking = 0;

        json_array_foreach (json_object_get(file, "findings"), i, finding)
                breaking += json_flag(finding, "breaking") && !json_flag(finding, "allowed");
        return mem_printf("%s%s%s", json_flag(file, "transaction") ? "" : "no transaction ",
                          json_flag(file, "reversible") ? "" : "irreversible ", breaking > 0 ? "breaking" : "");
}

static char *register_time_cell(const json_t *file)
{
        return listing_time(file, "registered_at");
}

static const struct column COLUMNS[] = {
        { .heading = "FILE", .member = "name" },
        { .heading = "ROLLED OUT", .member = "rolled_out" },
        { .heading = "NOTES", .member = "findings", .cell = register_notes_cell },
        { .heading = "REGISTERED (UTC)", .member = "registered_at", .cell = register_time_cell },
        { .heading = "BY", .member = "registered_by", .wide = true },
        { .heading = "SHA-256", .member = "checksum", .wide = true },
        { .heading = NULL },
};

static const struct listing LISTED = {
        .items = "files", .none = "no files are registered", .names = { "version" }, .id = "version", .columns = COLUMNS
};

static void register_show_file(const json_t *file)
{
        const char *sql = json_text(file, "sql");
        auto_free char *shown = sql ? text_safe_bytes(sql, strlen(sql), true) : NULL;

        print_pair("file", json_text(file, "name"));
        print_pair("sha-256", json_text(file, "checksum"));
        print_pair("by", json_text(file, "registered_by"));
        print_pair("rolled out", json_flag(file, "rolled_out") ? "yes" : "no");
        printf("%s\n", shown ? shown : "");
}

/* Without the folder, in which a shell completes it. */
static const char *register_name_of(const char *word)
{
        const char *slash = strrchr(word, '/');

        return slash ? slash + 1 : word;
}

/* Fetches the file that a person calls by its version, or by its name. The caller releases it. */
static int register_fetch(const char *word, json_t **ret)
{
        const char *name = register_name_of(word);
        size_t digits = strspn(name, "0123456789");
        auto_free char *path = mem_printf(FILES "/%.*s", (int)digits, name);
        int status;

        if (digits == 0)
                return cli_usage("migrate", "a registered file is called by its version, or by its name");
        status = api_get(path, ret);
        if (status == EXIT_GOOD && name[digits] != '\0' && strcmp(name, json_text(*ret, "name")) != 0)
                return cli_fail(EXIT_FAILED, "the file with this version is %s", json_text(*ret, "name"));
        return status;
}

int migrate_show(int argc, char **argv)
{
        struct listing_wish wish;
        auto_json *file = NULL;
        int status = listing_options(&argc, argv, &wish);

        if (status == EXIT_GOOD && argc > 3)
                status = cli_expect(argc, argv, 2);
        if (status != EXIT_GOOD)
                return status;
        if (argc == 2)
                return listing_run(&LISTED, &wish, false, pages_fetch,
                                   &(struct pages){ .path = FILES, .items = LISTED.items, .limit = wish.limit });
        status = register_fetch(argv[2], &file);
        if (status == EXIT_GOOD && !listing_show_one(&LISTED, file))
                register_show_file(file);
        return status;
}

/* One file on its way into the register. */
struct sent {
        char *name;
        json_t *answer; /* NULL: it is there already, as it is */
};

struct register_run {
        json_t *known; /* {checksum, verify} by name */
        struct sent *sent;
        size_t count;
        json_t *told; /* of --json */
        bool out_of_order;
        int status;
};

static int register_learn_known(struct register_run *run)
{
        auto_json *page = NULL;
        json_t *file;
        size_t i;
        int status = pages_fetch(&(struct pages){ .path = FILES, .items = "files", .limit = PAGES_ALL }, &page);

        json_array_foreach (json_object_get(page, "files"), i, file)
                json_object_set(run->known, json_text(file, "name"), file);
        return status;
}

static int register_send(struct register_run *run, const struct migration *file)
{
        const json_t *known = json_object_get(run->known, file->name);
        bool same = known != NULL && strcmp(json_text(known, "checksum"), file->checksum) == 0;
        auto_json *body = json_pack("{s:s, s:s}", "name", file->name, "sql", file->text);
        json_t *answer = NULL;
        int status = EXIT_GOOD;

        if (file->verify != NULL)
                json_set_text(body, "verify", file->verify);
        if (run->out_of_order)
                json_object_set_new(body, "out_of_order", json_true());
        if (!same || file->verify != NULL || json_flag(known, "verify")) /* what verifies it is not in the list */
                status = api_post(FILES, body, NULL, &answer);
        if (status != EXIT_GOOD)
                return status;
        run->sent = mem_resize(run->sent, (run->count + 1) * sizeof(run->sent[0]));
        run->sent[run->count++] = (struct sent){ .name = mem_copy_text(file->name), .answer = answer };
        return EXIT_GOOD;
}

static int register_send_path(struct register_run *run, const char *path)
{
        struct migration_set *set;
        struct err err;
        int status = EXIT_GOOD;

        if (migration_set_load(path, &set, &err) < 0)
                return cli_fail(EXIT_FAILED, "%s", err.message);
        for (size_t i = 0; status == EXIT_GOOD && i < set->count; i++)
                status = register_send(run, &set->items[i]);
        migration_set_free(set);
        return status;
}

/* Says what became of each. A refusal of one does not hold up the others. */
static int register_conclude(struct register_run *run)
{
        int status = EXIT_GOOD;

        for (size_t i = 0; i < run->count; i++) {
                struct sent *sent = &run->sent[i];
                auto_json *operation = NULL;
                auto_free char *name = text_safe(sent->name);
                const char *outcome = "unchanged";

                if (sent->answer != NULL) {
                        int code = wait_operation(json_text(sent->answer, "operation_id"), NULL, WAIT_DEFAULT_MS,
                                                  &operation);

                        outcome = code == EXIT_GOOD ? "registered" : "refused";
                        status = code != EXIT_GOOD ? code : status;
                }
                if (!cli_json)
                        printf("%s: %s\n", name, outcome);
                json_array_append_new(run->told, json_pack("{s:s, s:s, s:O?}", "file", sent->name, "outcome", outcome,
                                                           "operation", operation));
        }
        return status;
}

int migrate_register(int argc, char **argv)
{
        struct register_run run = { .known = json_object(), .told = json_array() };
        auto_json *answer = json_pack("{s:o}", "files", run.told);
        int status;

        run.out_of_order = cli_flag(&argc, argv, "out-of-order");
        status = register_learn_known(&run);
        if (status == EXIT_GOOD && argc == 2)
                status = register_send_path(&run, DIRECTORY);
        for (int i = 2; status == EXIT_GOOD && i < argc; i++)
                status = register_send_path(&run, argv[i]);
        if (status == EXIT_GOOD)
                status = register_conclude(&run);
        for (size_t i = 0; i < run.count; i++) {
                free(run.sent[i].name);
                json_decref(run.sent[i].answer);
        }
        free(run.sent);
        json_decref(run.known);
        if (cli_json)
                cli_print_answer(answer);
        return status;
}

int migrate_withdraw(int argc, char **argv)
{
        auto_json *file = NULL, *body = NULL, *answer = NULL, *operation = NULL;
        int status = cli_expect(argc, argv, 2);

        if (status == EXIT_GOOD)
                status = register_fetch(argv[2], &file);
        if (status != EXIT_GOOD)
                return status;
        body = json_pack("{s:s}", "name", json_text(file, "name"));
        status = wait_request(FILES "/withdraw", body, WAIT_DEFAULT_MS, &answer, &operation);
        if (cli_json && operation != NULL)
                cli_print_answer(operation);
        else if (status == EXIT_GOOD)
                printf("%s: withdrawn\n", json_text(file, "name"));
        return status;
}
