/* `tenantry migrate import`: what alembic would do, as migration files. */
#include "cli/alembic.h"
#include "cli/cli.h"
#include "cli/migrate.h"
#include "cli/new_migrations.h"
#include "cli/terminal.h"
#include "common/base/buf.h"
#include "common/base/memory.h"
#include "common/migration/migration.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* For whoever reads a file that has only a way back. */
#define NOTHING "-- alembic does nothing here, but its downgrade does."

struct import {
        const char *name, *directory, *down_file;
        struct alembic up, down;
        struct new_migration *files;
        size_t file_count;
        char **paths;
};

/* Up to a byte more than is allowed, by which it is refused. */
static int import_read(FILE *in, const char *name, struct buf *text, struct err *err)
{
        char chunk[8192];
        size_t n;

        buf_add(text, "", 0);
        while (text->length <= MIGRATION_FILE_LIMIT && (n = fread(chunk, 1, sizeof(chunk), in)) > 0)
                buf_add(text, chunk, n);
        return ferror(in) ? err_set(err, ERR_PERMANENT, "unreadable", "cannot read %s: %s", name, strerror(errno)) : 0;
}

static int import_read_up(struct import *import, struct err *err)
{
        static const char name[] = "standard input";
        auto_buf text = { 0 };
        int rc = import_read(stdin, name, &text, err);

        return rc < 0 ? rc : alembic_split(name, text.data, text.length, ALEMBIC_UPGRADE, &import->up, err);
}

static int import_read_down(struct import *import, struct err *err)
{
        const char *name = import->down_file;
        auto_buf text = { 0 };
        FILE *in = fopen(name, "re");
        int rc;

        if (in == NULL)
                return err_set(err, ERR_PERMANENT, "unreadable", "cannot read %s: %s", name, strerror(errno));
        rc = import_read(in, name, &text, err);
        fclose(in);
        return rc < 0 ? rc : alembic_split(name, text.data, text.length, ALEMBIC_DOWNGRADE, &import->down, err);
}

static struct new_migration *import_add_file(struct import *import, const struct alembic_part *up)
{
        struct new_migration *file = &import->files[import->file_count++];

        *file = (struct new_migration){ .up = up->empty ? NOTHING : up->sql,
                                        .up_alone = !up->empty && !up->transaction,
                                        .down = "" };
        return file;
}

static void import_set_down(struct new_migration *file, const struct alembic_part *down)
{
        file->down = down->empty ? "" : down->sql;
        file->down_alone = !down->empty && !down->transaction;
}

/* There is only one file, so there is no choice. A downgrade of one part is its section; one of several is a section
 * that begins and ends its transactions itself. */
static int import_pair_with_one(struct import *import, struct err *err)
{
        struct new_migration *file = &import->files[0];
        const struct alembic *down = &import->down;

        if (alembic_count_full(down) > 1) {
                file->down = down->sql;
                file->down_alone = true;
                return alembic_check_as_one(down, err);
        }
        for (size_t i = 0; i < down->part_count; i++)
                if (!down->parts[i].empty)
                        import_set_down(file, &down->parts[i]);
        return 0;
}

/* The last part of the downgrade belongs to the first one of the upgrade, and so on. Where only one of both does
 * something, the file has an empty section: files are taken back one by one, and in between a database must be what its
 * ledger says. */
static int import_pair_mirrored(struct import *import, struct err *err)
{
        size_t count = import->up.part_count;
        int rc = alembic_check_mirrored(&import->up, &import->down, err);

        import->file_count = 0;
        for (size_t i = 0; rc == 0 && i < count; i++) {
                const struct alembic_part *up = &import->up.parts[i], *down = &import->down.parts[count - 1 - i];

                if (!up->empty || !down->empty)
                        import_set_down(import_add_file(import, up), down);
        }
        return rc;
}

static int import_pair(struct import *import, struct err *err)
{
        import->files = mem_alloc(import->up.part_count, sizeof(import->files[0]));
        for (size_t i = 0; i < import->up.part_count; i++)
                if (!import->up.parts[i].empty)
                        import_add_file(import, &import->up.parts[i]);
        if (import->down_file == NULL)
                return 0;
        if (alembic_check_revisions(&import->up, &import->down, err) < 0)
                return -ERR_INPUT;
        return import->file_count == 1 ? import_pair_with_one(import, err) : import_pair_mirrored(import, err);
}

static int import_do(struct import *import, struct err *err)
{
        int rc = import_read_up(import, err);

        if (rc == 0 && import->down_file != NULL)
                rc = import_read_down(import, err);
        if (rc == 0)
                rc = import_pair(import, err);
        cli_catch_interrupt(); /* nobody could undo a part of the files */
        if (rc == 0)
                rc = new_migrations_write(import->directory, import->name, import->files, import->file_count,
                                          &import->paths, err);
        return rc;
}

static void import_show(const struct import *import)
{
        auto_json *answer = json_pack("{s:[]}", "files");

        for (size_t i = 0; i < import->file_count; i++) {
                if (cli_json)
                        json_array_append_new(json_object_get(answer, "files"), json_string(import->paths[i]));
                else
                        puts(import->paths[i]);
        }
        if (cli_json)
                cli_print_answer(answer);
        if (import->down_file == NULL)
                fputs("migrate:down is empty: to fill it, import with --down FILE, the output of `alembic downgrade "
                      "B:A --sql`\n",
                      stderr);
}

static void import_release(struct import *import)
{
        for (size_t i = 0; import->paths != NULL && i < import->file_count; i++)
                free(import->paths[i]);
        free(import->paths);
        free(import->files);
        alembic_release(&import->up);
        alembic_release(&import->down);
}

static int import_run(struct import *import)
{
        auto_free char *message = NULL;
        struct err err;
        int rc = import_do(import, &err);

        if (rc == 0)
                import_show(import);
        else
                message = text_safe(err.message); /* which may quote the input */
        import_release(import);
        if (rc < 0)
                return cli_fail(rc == -ERR_INPUT ? EXIT_REFUSED : EXIT_FAILED, "%s", message);
        return EXIT_GOOD;
}

int migrate_import(int argc, char **argv)
{
        const char *directory = cli_option(&argc, argv, "directory");
        struct import import = { .directory = directory ? directory : "migrations",
                                 .down_file = cli_option(&argc, argv, "down") };

        if (cli_expect(argc, argv, 2) != EXIT_GOOD)
                return EXIT_USAGE;
        import.name = argv[2];
        if (!new_migrations_name_is_good(import.name))
                return cli_usage("migrate",
                                 "NAME is up to 100 letters, digits, hyphens and underscores, and begins with "
                                 "a letter or a digit");
        if (import.down_file != NULL && strcmp(import.down_file, "-") == 0)
                return cli_usage("migrate", "standard input is the upgrade: --down needs a file");
        if (isatty(STDIN_FILENO))
                return cli_usage("migrate", "pipe the output of `alembic upgrade A:B --sql` into it");
        return import_run(&import);
}
