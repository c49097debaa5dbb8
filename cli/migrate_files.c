/* `tenantry migrate new` and `tenantry migrate lint`: files on this machine; neither gateway nor token is needed. */
#include "cli/migrate.h"
#include "cli/new_migrations.h"
#include "cli/terminal.h"
#include "common/base/memory.h"
#include "common/migration/lint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define DIRECTORY "migrations"

/* A name in the form that files have: "Add prices" is add_prices. The caller frees. */
static char *files_name_of(const char *text)
{
        char *name = mem_copy_text(text);

        cli_lower_case(name);
        for (char *p = name; *p; p++)
                if (*p == ' ')
                        *p = '_';
        return name;
}

int migrate_new(int argc, char **argv)
{
        static const struct new_migration empty = { .up = "", .down = "" };
        const char *directory = cli_option(&argc, argv, "directory") ?: DIRECTORY;
        auto_free char *name = NULL, *path = NULL;
        auto_free char **paths = NULL;
        auto_json *answer = NULL;
        struct err err;
        int status = cli_expect(argc, argv, 2);

        if (status != EXIT_GOOD)
                return status;
        name = files_name_of(argv[2]);
        if (!new_migrations_name_is_good(name))
                return cli_usage("migrate",
                                 "NAME has up to 100 letters, digits, blanks, underscores and hyphens, and begins "
                                 "with a letter or a digit");
        if (mkdir(directory, 0777) < 0 && errno != EEXIST)
                return cli_fail(EXIT_FAILED, "cannot create %s: %s", directory, strerror(errno));
        if (new_migrations_write(directory, name, &empty, 1, &paths, &err) < 0)
                return cli_fail(EXIT_FAILED, "%s", err.message);
        path = paths[0];
        answer = json_pack("{s:s, s:s%}", "path", path, "version", path + strlen(directory) + 1,
                           strspn(path + strlen(directory) + 1, "0123456789"));
        if (cli_json)
                cli_print_answer(answer);
        else
                puts(path);
        return EXIT_GOOD;
}

/* What lint has seen. */
struct files {
        json_t *answer; /* of --json: a list of {file, version, findings} */
        size_t count, found, stopping;
};

static void file_print_finding(const char *path, const struct migration_finding *finding)
{
        auto_free char *object = text_safe(finding->object), *why = text_safe(finding->why);

        printf("%s:%d: %s", path, finding->place.line, finding->rule);
        if (finding->breaking)
                printf(" (breaking%s%s)", finding->allowed ? ", allowed: " : "", why);
        else if (finding->allowed)
                printf(" (allowed: %s)", why);
        printf(": %s%s%s; safe way: %s\n", object, *object ? ": " : "", finding->reason, finding->safe_way);
}

static void files_lint(struct files *files, const char *path, const struct migration *migration)
{
        auto_free char *shown = text_safe(path);
        struct migration_findings findings;

        migration_lint(migration, &findings);
        for (size_t i = 0; i < findings.count && !cli_json; i++)
                file_print_finding(shown, &findings.items[i]);
        json_array_append_new(files->answer, json_pack("{s:s, s:s, s:o}", "file", shown, "version", migration->version,
                                                       "findings", migration_findings_json(&findings)));
        files->count++;
        files->found += findings.count;
        files->stopping += migration_findings_stopping(&findings);
        migration_findings_release(&findings);
}

/* A file, or all of a directory. */
static int files_lint_path(struct files *files, const char *path)
{
        struct migration_set *set;
        struct stat status;
        struct err err;
        bool is_directory = stat(path, &status) == 0 && S_ISDIR(status.st_mode);

        if (migration_set_load(path, &set, &err) < 0)
                return cli_fail(EXIT_FAILED, "%s", err.message);
        for (size_t i = 0; i < set->count; i++) {
                auto_free char *inside = mem_printf("%s/%s", path, set->items[i].name);

                files_lint(files, is_directory ? inside : path, &set->items[i]);
        }
        migration_set_free(set);
        return EXIT_GOOD;
}

/* The verdict over all files, of which some may not have been readable. */
static int files_conclude(const struct files *files, int status)
{
        if (files->stopping > 0)
                status = cli_fail(EXIT_FAILED,
                                  "breaking findings that no file allows: %zu (see docs/migrations.md, Lint)",
                                  files->stopping);
        else if (status == EXIT_GOOD && files->found == 0 && !cli_json)
                printf("%zu file%s, no findings\n", files->count, files->count == 1 ? "" : "s");
        return status;
}

int migrate_lint(int argc, char **argv)
{
        struct files files = { .answer = json_array() };
        auto_json *whole = json_pack("{s:o}", "files", files.answer);
        int status = EXIT_GOOD;

        for (int i = 2; i < argc; i++)
                if (files_lint_path(&files, argv[i]) != EXIT_GOOD)
                        status = EXIT_FAILED;
        if (argc == 2)
                status = files_lint_path(&files, DIRECTORY);
        status = files_conclude(&files, status);
        if (cli_json)
                cli_print_answer(whole);
        return status;
}
