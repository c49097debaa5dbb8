/* `tenantry migrate new` and `tenantry migrate lint`: files on this machine; neither gateway nor token is needed. */
#include "cli/migrate.h"
#include "cli/terminal.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/migration/lint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DIRECTORY  "migrations"
#define NAME_LIMIT 100

static const char TEMPLATE[] = "-- migrate:up\n\n\n-- migrate:down\n\n";

/* What a shell, dbmate and every file system take as it is. The caller frees; NULL if the name has something else. */
static char *file_plain_name(const char *text)
{
        auto_free char *name = mem_copy_text(text);

        cli_lower_case(name);
        for (char *p = name; *p; p++)
                if (*p == ' ')
                        *p = '_';
        if (*name == '\0' || strlen(name) > NAME_LIMIT ||
            strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") < strlen(name))
                return NULL;
        return TAKE_PTR(name);
}

/* Whether a file of the directory has the version. */
static int file_version_is_taken(const char *directory, const char *version, bool *ret)
{
        size_t length = strlen(version);
        struct dirent *entry;
        DIR *dir = opendir(directory);

        if (dir == NULL)
                return cli_fail(EXIT_FAILED, "cannot read %s: %s", directory, strerror(errno));
        *ret = false;
        while ((entry = readdir(dir)) != NULL)
                if (strncmp(entry->d_name, version, length) == 0 && strspn(entry->d_name, "0123456789") == length)
                        *ret = true;
        closedir(dir);
        return EXIT_GOOD;
}

/* The present second, or the next that no file has. */
static int file_choose_version(const char *directory, char version[static 16])
{
        time_t now = (time_t)(clock_wall_ms() / 1000);
        bool taken = true;
        int status = EXIT_GOOD;

        for (; taken && status == EXIT_GOOD; now++) {
                struct tm utc;

                gmtime_r(&now, &utc);
                strftime(version, 16, "%Y%m%d%H%M%S", &utc);
                status = file_version_is_taken(directory, version, &taken);
        }
        return status;
}

static int file_write_new(const char *path)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        ssize_t written;

        if (fd < 0)
                return cli_fail(EXIT_FAILED, "cannot create %s: %s", path, strerror(errno));
        written = write(fd, TEMPLATE, strlen(TEMPLATE));
        if (close(fd) < 0 || written != (ssize_t)strlen(TEMPLATE))
                return cli_fail(EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
        return EXIT_GOOD;
}

int migrate_new(int argc, char **argv)
{
        const char *directory = cli_option(&argc, argv, "directory");
        auto_free char *name = NULL, *path = NULL;
        auto_json *answer = NULL;
        char version[16];
        int status = cli_expect(argc, argv, 2);

        if (status != EXIT_GOOD)
                return status;
        directory = directory ? directory : DIRECTORY;
        name = file_plain_name(argv[2]);
        if (name == NULL)
                return cli_usage("migrate", "NAME has up to 100 letters, digits, blanks, underscores and hyphens");
        if (mkdir(directory, 0777) < 0 && errno != EEXIST)
                return cli_fail(EXIT_FAILED, "cannot create %s: %s", directory, strerror(errno));
        status = file_choose_version(directory, version);
        path = mem_printf("%s/%s_%s.sql", directory, version, name);
        if (status == EXIT_GOOD)
                status = file_write_new(path);
        if (status != EXIT_GOOD)
                return status;
        answer = json_pack("{s:s, s:s}", "path", path, "version", version);
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

static int files_lint_directory(struct files *files, const char *directory)
{
        struct migration_set *set;
        struct err err;

        if (migration_set_load(directory, &set, &err) < 0)
                return cli_fail(EXIT_FAILED, "%s", err.message);
        for (size_t i = 0; i < set->count; i++) {
                auto_free char *path = mem_printf("%s/%s", directory, set->items[i].name);

                files_lint(files, path, &set->items[i]);
        }
        migration_set_free(set);
        return EXIT_GOOD;
}

static int files_lint_path(struct files *files, const char *path)
{
        struct migration migration;
        struct stat status;
        struct err err;

        if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
                return files_lint_directory(files, path);
        if (migration_load(path, &migration, &err) < 0)
                return cli_fail(EXIT_FAILED, "%s", err.message);
        files_lint(files, path, &migration);
        migration_release(&migration);
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
                status = files_lint_directory(&files, DIRECTORY);
        status = files_conclude(&files, status);
        if (cli_json)
                cli_print_answer(whole);
        return status;
}
