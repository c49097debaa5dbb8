/* `tenantry archive cat` and `archive check` open one of our encrypted dumps; `archive restore` and `archive check
 * --restore` have the provisioner restore one. `tenantry archive TENANT` is a command to a tenant and is in
 * tenant_command.c. */
#include "cli/tenant_command.h"
#include "cli/terminal.h"
#include "cli/wait.h"
#include "common/base/memory.h"
#include "common/base/sealed_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Reads all of it; writes it to out unless that is NULL. */
static int archive_read_through(struct sealed_reader *reader, FILE *out, int64_t *ret_plain)
{
        const unsigned char *bytes;
        struct err err;
        ssize_t length;

        while ((length = sealed_reader_next(reader, &bytes, &err)) > 0) {
                *ret_plain += length;
                if (out != NULL && fwrite(bytes, 1, (size_t)length, out) != (size_t)length)
                        return cli_fail(EXIT_FAILED, "cannot write to standard output: %s", strerror(errno));
        }
        if (length < 0)
                return cli_fail(EXIT_FAILED, "%s; the output so far is not the complete dump", err.message);
        return EXIT_GOOD;
}

static void archive_report(struct sealed_reader *reader, int64_t plain)
{
        auto_free char *checksum = sealed_reader_checksum(reader);
        auto_json *whole =
                json_pack("{s:b, s:I, s:I, s:s}", "sound", 1, "bytes", (json_int_t)sealed_reader_bytes(reader),
                          "dump_bytes", (json_int_t)plain, "sha256", checksum);

        if (cli_json)
                print_json(whole);
        else
                printf("intact: %lld bytes, dump of %lld bytes, SHA-256 %s\n", (long long)sealed_reader_bytes(reader),
                       (long long)plain, checksum);
}

static int archive_open_file(const char *path, const char *keys, FILE *out)
{
        struct sealed_reader *reader = NULL;
        struct keyring *ring = NULL;
        int64_t plain = 0;
        struct err err;
        int status, rc;

        if (keyring_parse("CONTROL_KEYS", keys, &ring, &err) < 0)
                return cli_fail(EXIT_USAGE, "%s", err.message);
        rc = sealed_reader_open(path, &reader, &err);
        if (rc == 0)
                rc = sealed_reader_unlock(reader, ring, &err);
        if (rc < 0) {
                sealed_reader_free(reader);
                keyring_free(ring);
                return cli_fail(err.class == ERR_BUSY && strcmp(err.code, "archive_disk") == 0 ? EXIT_NOT_FOUND
                                                                                               : EXIT_FAILED,
                                "%s", err.message);
        }
        status = archive_read_through(reader, out, &plain);
        if (status == EXIT_GOOD && out == NULL)
                archive_report(reader, plain);
        sealed_reader_free(reader);
        keyring_free(ring);
        return status;
}

/* The provisioner has the keys, files and servers, so it does the work. Of a path, only the last component counts. */
static int archive_restore(int argc, char **argv, bool only_check)
{
        const char *backup = cli_option(&argc, argv, "backup"), *reason = cli_option(&argc, argv, "reason");
        const char *confirm = cli_option(&argc, argv, "confirm");
        bool beside = cli_flag(&argc, argv, "beside");
        auto_json *body = json_object();
        int64_t wait_ms;

        if (wait_option(&argc, argv, &wait_ms) != EXIT_GOOD)
                return EXIT_USAGE;
        if (argc != 3)
                return cli_usage("archive", only_check ? "name the tenant: `archive check TENANT --restore`"
                                                       : "name the tenant: `archive restore TENANT`");
        if (confirm != NULL && (beside || only_check))
                return cli_usage("archive", "--confirm is only for replacing the tenant's database");
        if (beside && only_check)
                return cli_usage("archive", "a check keeps no copy: use `archive restore TENANT --beside`");
        if (backup != NULL && strrchr(backup, '/') != NULL)
                backup = strrchr(backup, '/') + 1;
        json_set_text(body, "mode", only_check ? "check" : beside ? "beside" : "in_place");
        if (tenant_command_add(body, "backup", backup) != EXIT_GOOD ||
            tenant_command_add(body, "reason", reason) != EXIT_GOOD ||
            tenant_command_add(body, "confirm", confirm) != EXIT_GOOD)
                return EXIT_USAGE;
        return tenant_command_send("restore", argv[2], body, wait_ms);
}

int run_archive(int argc, char **argv)
{
        bool cat = argc >= 2 && strcmp(argv[1], "cat") == 0, check = argc >= 2 && strcmp(argv[1], "check") == 0;
        const char *keys;

        if (argc >= 2 && strcmp(argv[1], "restore") == 0)
                return archive_restore(argc, argv, false);
        if (check && cli_flag(&argc, argv, "restore"))
                return archive_restore(argc, argv, true);
        if (!cat && !check)
                return run_tenant_command(argc, argv);
        /* Never interpreted as a tenant of that name: a forgotten FILE must not archive anybody. */
        if (argc != 3)
                return cli_usage(
                        "archive",
                        "use `archive cat FILE` or `archive check FILE`; for a tenant of that name give its id");
        keys = cli_environment("CONTROL_KEYS");
        if (keys == NULL)
                return EXIT_USAGE;
        if (cat && (cli_json || terminal_is(stdout)))
                return cli_usage("archive", "`archive cat` writes a binary dump: send it to a file or to pg_restore");
        return archive_open_file(argv[2], keys, cat ? stdout : NULL);
}
