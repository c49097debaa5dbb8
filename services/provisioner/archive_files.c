/* Compares the files in ARCHIVE_DIRECTORY with the catalog: see archive_files.h. A scan alternates: a worker thread
 * reads a batch of tenants' folders, the catalog says which files it does not know, the thread removes those it is told
 * to and reads the next batch. Batches follow the order of tenants' ids, so that each row is compared with the folders
 * once. */
#include "services/provisioner/archive_files.h"

#include "common/base/blocking.h"
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/log.h"
#include "common/base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BATCH_FILES   1000
#define BATCH_FOLDERS 500

static const char SQL_REPORT[] =
        "select known, remove from report_archive_files($1::uuid, $2::uuid, $3::jsonb, $4::bigint)";

static const char SQL_LOOKED[] = "select archive_looked_at($1::bigint, $2::bigint)";

struct archive_files {
        struct provisioner *provisioner; /* NULL once freed: the scan ends with the call to the disk */
        struct blocking *disk;
        const char *directory;
        bool looking, in_call;
        /* The scan under way; owned by the worker thread during a call. */
        char **folders;
        size_t count, next;
        const char *after, *until; /* bounds of the batch: folders, or NULL for none */
        json_t *found, *remove;
        int64_t began, known, bytes;
        struct err failed;
};

static void files_read_batch(void *context);
static void files_batch_read(void *context);

static void files_forget_look(struct archive_files *files)
{
        for (size_t i = 0; i < files->count; i++)
                free(files->folders[i]);
        free(TAKE_PTR(files->folders));
        json_decref(TAKE_PTR(files->found));
        json_decref(TAKE_PTR(files->remove));
        files->after = files->until = NULL;
        files->count = files->next = 0;
        files->looking = false;
}

static void files_end_look(struct archive_files *files, const struct err *err)
{
        if (err != NULL)
                log_warn("the archive directory could not be scanned", "error", err->message, NULL);
        files_forget_look(files);
}

/* Back on the loop: says whether the scan continues. */
static bool files_call_ended(struct archive_files *files)
{
        files->in_call = false;
        if (files->provisioner == NULL) {
                files_forget_look(files);
                free(files);
                return false;
        }
        if (files->failed.class != ERR_NONE || files->provisioner->service->stopping) {
                files_end_look(files, files->failed.class != ERR_NONE ? &files->failed : NULL);
                return false;
        }
        return true;
}

static void files_call_disk(struct archive_files *files, blocking_fn run, blocking_fn ended)
{
        files->in_call = true;
        blocking_call(files->disk, run, ended, files);
}

static void files_disk_error(struct archive_files *files, const char *name)
{
        err_set(&files->failed, ERR_BUSY, "archive_disk", "cannot read %s in ARCHIVE_DIRECTORY: %s", name,
                strerror(errno));
}

static int files_compare_names(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* On a worker thread. Folders not named after a tenant are ignored. */
static void files_list_folders(void *context)
{
        struct archive_files *files = context;
        DIR *directory = opendir(files->directory);
        struct dirent *entry;
        size_t room = 0;

        if (directory == NULL) {
                files_disk_error(files, "the folders");
                return;
        }
        while ((entry = readdir(directory)) != NULL) {
                if (!id_is_valid(entry->d_name))
                        continue;
                if (files->count == room) {
                        room = MAX(64, 2 * room);
                        files->folders = mem_resize(files->folders, room * sizeof(*files->folders));
                }
                files->folders[files->count++] = mem_copy_text(entry->d_name);
        }
        closedir(directory);
        if (files->count > 0)
                qsort(files->folders, files->count, sizeof(*files->folders), files_compare_names);
}

static void files_folders_listed(void *context)
{
        struct archive_files *files = context;

        if (files_call_ended(files))
                files_call_disk(files, files_read_batch, files_batch_read);
}

/* A foreign file name may contain any bytes; the catalog accepts only text. */
static char *files_make_printable(const char *name)
{
        char *text = mem_copy_text(name);

        for (char *p = text; *p; p++)
                if (*p < 0x20 || *p > 0x7e)
                        *p = '?';
        return text;
}

static void files_read_folder(struct archive_files *files, const char *tenant)
{
        auto_free char *path = mem_printf("%s/%s", files->directory, tenant);
        DIR *directory = opendir(path);
        struct dirent *entry;
        struct stat at;
        time_t now = time(NULL);

        if (directory == NULL) {
                if (errno != ENOENT && errno != ENOTDIR)
                        files_disk_error(files, tenant);
                return;
        }
        while ((entry = readdir(directory)) != NULL) {
                auto_free char *name = files_make_printable(entry->d_name);

                if (fstatat(dirfd(directory), entry->d_name, &at, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(at.st_mode))
                        continue; /* gone meanwhile, or not a file */
                json_array_append_new(files->found,
                                      json_pack("{s:s, s:s, s:I, s:I}", "tenant_id", tenant, "name", name, "bytes",
                                                (json_int_t)at.st_size, "age", (json_int_t)(now - at.st_mtime)));
                files->bytes += at.st_size;
        }
        closedir(directory);
}

static void files_remove(struct archive_files *files)
{
        json_t *name;
        size_t i;

        json_array_foreach (files->remove, i, name) {
                auto_free char *path = mem_printf("%s/%s", files->directory, json_string_value(name));

                if (unlink(path) < 0 && errno != ENOENT)
                        files_disk_error(files, json_string_value(name));
        }
}

/* On a worker thread: removes the files named by the catalog for the last batch, then reads the next one. */
static void files_read_batch(void *context)
{
        struct archive_files *files = context;
        size_t from = files->next;

        files_remove(files);
        json_decref(files->found);
        files->found = json_array();
        while (files->next < files->count && files->failed.class == ERR_NONE && files->next - from < BATCH_FOLDERS &&
               json_array_size(files->found) < BATCH_FILES)
                files_read_folder(files, files->folders[files->next++]);
        files->after = from > 0 ? files->folders[from - 1] : NULL;
        files->until = files->next < files->count ? files->folders[files->next - 1] : NULL;
}

static void files_looked(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        files_end_look(context, err);
}

static void files_last_removed(void *context)
{
        struct archive_files *files = context;
        auto_free char *known = mem_printf("%lld", (long long)files->known);
        auto_free char *bytes = mem_printf("%lld", (long long)files->bytes);

        if (files_call_ended(files))
                pg_pool_exec(files->provisioner->service->catalog, SECONDS(10), SQL_LOOKED, PARAMS(known, bytes),
                             files_looked, files);
}

static void files_remove_last(void *context)
{
        files_remove(context);
}

static void files_log_removals(const struct archive_files *files)
{
        json_t *name;
        size_t i;

        json_array_foreach (files->remove, i, name)
                log_info("a file superseded by a later dump was removed", "file", json_string_value(name), NULL);
}

static void files_reported(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct archive_files *files = context;
        const char *remove = err == NULL ? pg_text(rows, 0, "remove") : NULL;
        struct err bad;

        json_decref(TAKE_PTR(files->remove));
        if (err == NULL && json_parse(remove, strlen(remove), &files->remove, &bad) < 0)
                err = &bad;
        if (err != NULL || files->provisioner->service->stopping) {
                files_end_look(files, err);
                return;
        }
        files_log_removals(files);
        files->known += pg_int(rows, 0, "known");
        if (files->until == NULL)
                files_call_disk(files, files_remove_last, files_last_removed);
        else
                files_call_disk(files, files_read_batch, files_batch_read);
}

static void files_batch_read(void *context)
{
        struct archive_files *files = context;
        auto_free char *list = json_print(files->found);
        auto_free char *took = mem_printf("%lld", (long long)(clock_boot_ms() - files->began));

        if (files_call_ended(files))
                pg_pool_exec(files->provisioner->service->catalog, SECONDS(30), SQL_REPORT,
                             PARAMS(files->after, files->until, list, took), files_reported, files);
}

void archive_files_look(struct archive_files *files)
{
        if (files->looking)
                return;
        files->looking = true;
        files->began = clock_boot_ms();
        files->known = files->bytes = 0;
        files->failed = (struct err){ 0 };
        files_call_disk(files, files_list_folders, files_folders_listed);
}

struct archive_files *archive_files_new(struct provisioner *provisioner)
{
        struct archive_files *files = NEW(struct archive_files);

        files->provisioner = provisioner;
        files->disk = provisioner->disk;
        files->directory = provisioner->config->archive_directory;
        return files;
}

/* No answer from the catalog will come any more: its pool is freed next. */
void archive_files_free(struct archive_files *files)
{
        if (files == NULL)
                return;
        files->provisioner = NULL;
        if (files->in_call)
                return;
        files_forget_look(files);
        free(files);
}
