/* One encrypted dump of a tenant's database: see dump.h. The plain dump never touches a disk. */
#include "services/provisioner/dump.h"

#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/base/sealed_file.h"
#include "services/provisioner/activity.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PARTIAL       ".partial"
#define DUMP_MAGIC    0x64756d70
#define READ_BYTES    65536
#define ERROR_BYTES   600
#define FAILED_DELAY  MINUTES(5) /* a dump is too much work to be tried again every minute */
#define PIECES_A_TURN 32         /* of 64 KiB, read back at a time: the loop has other work */

static const char SQL_RECORD[] = "select learn_backup($1::uuid, $2::bigint, $3::uuid, $4::jsonb)";

/* One run of pg_dump, then one of pg_restore --list. Its own life: it ends when the processes and pipes have ended. */
struct dump {
        unsigned magic;
        struct saga *saga; /* NULL once abandoned */
        struct activity *activity;
        const char *kind, *sslmode;
        char *path, *partial, *password;
        uv_process_t process;
        uv_pipe_t in, out, errors;
        uv_timer_t turn; /* between two turns of reading back */
        int handles;
        int64_t exit_status;
        bool listing, in_open;
        struct sealed_writer *writer;
        struct sealed_reader *reader;
        struct err failed;
        char read_buffer[READ_BYTES], error_text[ERROR_BYTES];
        size_t error_length;
        uv_write_t write;
        int objects;
        bool at_line_start, comment_line, reader_done;
        char *checksum;
        int64_t bytes;
};

static void start_listing(struct dump *dump);
static void finish(struct dump *dump);

static void free_dump(struct dump *dump)
{
        sealed_writer_abandon(dump->writer);
        sealed_reader_free(dump->reader);
        free(dump->path);
        free(dump->partial);
        free(dump->checksum);
        mem_free_secret(dump->password);
        dump->magic = 0;
        free(dump);
}

static void process_failed(struct dump *dump)
{
        if (dump->failed.class != ERR_NONE)
                return;
        dump->error_text[dump->error_length] = '\0';
        for (char *p = dump->error_text; *p; p++)
                if ((unsigned char)*p < 0x20)
                        *p = ' ';
        pg_hide_names(dump->error_text);
        err_set(&dump->failed, ERR_BUSY, "dump_failed", "%s ended with %lld: %.250s",
                dump->listing ? "pg_restore" : "pg_dump", (long long)dump->exit_status, dump->error_text);
        dump->failed.retry_after = FAILED_DELAY;
}

/* Process and all pipes are closed: what came of it? */
static void stage_ended(struct dump *dump)
{
        if (dump->saga == NULL) {
                unlink(dump->partial);
                free_dump(dump);
                return;
        }
        if (dump->exit_status != 0)
                process_failed(dump);
        if (!dump->listing && dump->failed.class == ERR_NONE)
                sealed_writer_finish(TAKE_PTR(dump->writer), &dump->failed);
        if (dump->failed.class == ERR_NONE && !dump->listing && FAILPOINT(backup_after_dump, &dump->failed) == 0)
                start_listing(dump);
        else
                finish(dump);
}

static void on_closed(uv_handle_t *handle)
{
        struct dump *dump = handle->data;

        CHECK_MAGIC(dump, DUMP_MAGIC);
        if (--dump->handles == 0)
                stage_ended(dump);
}

static void close_pipe(uv_pipe_t *pipe)
{
        if (!uv_is_closing((uv_handle_t *)pipe))
                uv_close((uv_handle_t *)pipe, on_closed);
}

static void on_process_exit(uv_process_t *process, int64_t status, int signal)
{
        struct dump *dump = process->data;

        dump->exit_status = signal ? 128 + signal : status;
        uv_close((uv_handle_t *)process, on_closed);
        if (dump->listing)
                close_pipe(&dump->in);
}

static void lend_buffer(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
        struct dump *dump = handle->data;

        (void)size;
        *buffer = uv_buf_init(dump->read_buffer, sizeof(dump->read_buffer));
}

static void on_error_text(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
        struct dump *dump = stream->data;
        size_t room = sizeof(dump->error_text) - 1 - dump->error_length;

        if (length < 0) {
                close_pipe(&dump->errors);
                return;
        }
        memcpy(dump->error_text + dump->error_length, buffer->base, MIN((size_t)length, room));
        dump->error_length += MIN((size_t)length, room);
}

static void on_dump_bytes(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
        struct dump *dump = stream->data;

        if (length < 0) {
                close_pipe(&dump->out);
                return;
        }
        if (dump->failed.class == ERR_NONE &&
            sealed_writer_add(dump->writer, buffer->base, (size_t)length, &dump->failed) < 0)
                uv_process_kill(&dump->process, SIGTERM);
}

/* Each line that is no comment is one object of the dump. */
static void on_list_bytes(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
        struct dump *dump = stream->data;

        if (length < 0) {
                close_pipe(&dump->out);
                return;
        }
        for (ssize_t i = 0; i < length; i++) {
                if (dump->at_line_start)
                        dump->comment_line = buffer->base[i] == ';';
                dump->at_line_start = buffer->base[i] == '\n';
                dump->objects += dump->at_line_start && !dump->comment_line;
        }
}

static int spawn(struct dump *dump, char **arguments, uv_read_cb on_bytes)
{
        uv_loop_t *loop = &saga_service(dump->saga)->loop;
        auto_secret char *password = mem_printf("PGPASSWORD=%s", dump->password);
        auto_free char *path = mem_printf("PATH=%s", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
        auto_free char *sslmode = mem_printf("PGSSLMODE=%s", dump->sslmode);
        const char *root = getenv("PGSSLROOTCERT");
        auto_free char *certificate = mem_printf("PGSSLROOTCERT=%s", root ? root : "");
        char *environment[] = {
                password, path, sslmode, "PGCONNECT_TIMEOUT=10", "LC_ALL=C.UTF-8", root ? certificate : NULL, NULL
        };
        uv_stdio_container_t stdio[3] = {
                { dump->listing ? UV_CREATE_PIPE | UV_READABLE_PIPE : UV_IGNORE,
                  { .stream = (uv_stream_t *)&dump->in } },
                { UV_CREATE_PIPE | UV_WRITABLE_PIPE, { .stream = (uv_stream_t *)&dump->out } },
                { UV_CREATE_PIPE | UV_WRITABLE_PIPE, { .stream = (uv_stream_t *)&dump->errors } },
        };
        uv_process_options_t options = {
                .file = arguments[0],
                .args = arguments,
                .env = environment,
                .stdio = stdio,
                .stdio_count = 3,
                .exit_cb = on_process_exit,
        };
        int rc;

        uv_pipe_init(loop, &dump->in, 0);
        uv_pipe_init(loop, &dump->out, 0);
        uv_pipe_init(loop, &dump->errors, 0);
        uv_timer_init(loop, &dump->turn);
        dump->in.data = dump->out.data = dump->errors.data = dump->process.data = dump->turn.data = dump;
        dump->handles = 5;
        dump->error_length = 0;
        rc = uv_spawn(loop, &dump->process, &options);
        if (rc < 0) {
                dump->exit_status = 127;
                err_set(&dump->failed, ERR_BUSY, "dump_failed", "cannot run %s: %s", arguments[0], uv_strerror(rc));
                uv_close((uv_handle_t *)&dump->process, on_closed);
                close_pipe(&dump->out);
                close_pipe(&dump->errors);
                close_pipe(&dump->in);
                uv_close((uv_handle_t *)&dump->turn, on_closed);
                return rc;
        }
        uv_read_start((uv_stream_t *)&dump->out, lend_buffer, on_bytes);
        uv_read_start((uv_stream_t *)&dump->errors, lend_buffer, on_error_text);
        if (!dump->listing) {
                close_pipe(&dump->in);
                uv_close((uv_handle_t *)&dump->turn, on_closed);
        }
        return 0;
}

static void write_next(struct dump *dump);

static void on_written(uv_write_t *write, int status)
{
        struct dump *dump = write->data;

        /* pg_restore --list needs only the beginning and may hang up; the rest is still opened, to prove it can be. */
        dump->in_open = dump->in_open && status == 0;
        write_next(dump);
}

static void on_next_turn(uv_timer_t *timer)
{
        struct dump *dump = timer->data;

        CHECK_MAGIC(dump, DUMP_MAGIC);
        write_next(dump);
}

static void write_next(struct dump *dump)
{
        const unsigned char *piece;
        ssize_t length;
        uv_buf_t buffer;
        int pieces = 0;

        do {
                if (pieces++ == PIECES_A_TURN) {
                        uv_timer_start(&dump->turn, on_next_turn, 1, 0); /* 0 would be the same turn of the loop */
                        return;
                }
                length = dump->saga && dump->failed.class == ERR_NONE
                                 ? sealed_reader_next(dump->reader, &piece, &dump->failed)
                                 : 0;
        } while (length > 0 && !dump->in_open);
        if (length <= 0) {
                close_pipe(&dump->in);
                uv_close((uv_handle_t *)&dump->turn, on_closed);
                return;
        }
        buffer = uv_buf_init((char *)(uintptr_t)piece, (unsigned)length);
        dump->write.data = dump;
        if (uv_write(&dump->write, (uv_stream_t *)&dump->in, &buffer, 1, on_written) < 0) {
                dump->in_open = false;
                write_next(dump);
        }
}

static void start_listing(struct dump *dump)
{
        char *arguments[] = { "pg_restore", "--list", NULL };

        dump->listing = true;
        dump->in_open = true;
        dump->at_line_start = true;
        if (sealed_reader_open(dump->partial, dump->activity->provisioner->control_keys, &dump->reader, &dump->failed) <
            0) {
                finish(dump);
                return;
        }
        if (spawn(dump, arguments, on_list_bytes) == 0)
                write_next(dump);
}

/* The name too must outlive a power cut: the database may be dropped next. */
static bool make_name_durable(const struct dump *dump)
{
        const char *base = dump->activity->provisioner->config->archive_directory;
        auto_free char *folder = mem_copy_bytes(dump->path, (size_t)(strrchr(dump->path, '/') - dump->path));
        const char *const folders[] = { folder, base };
        bool durable = true;

        for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
                int fd = open(folders[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

                durable = fd >= 0 && fsync(fd) == 0 && durable;
                if (fd >= 0)
                        close(fd);
        }
        return durable;
}

/* The file counts only now: complete, durable, readable. */
static void finish(struct dump *dump)
{
        struct activity *activity = dump->activity;

        if (dump->failed.class == ERR_NONE && dump->objects == 0)
                err_set(&dump->failed, ERR_BUSY, "dump_empty", "the dump lists no object");
        if (dump->failed.class == ERR_NONE) {
                dump->bytes = sealed_reader_bytes(dump->reader);
                dump->checksum = sealed_reader_checksum(dump->reader);
                if (rename(dump->partial, dump->path) < 0 || !make_name_durable(dump))
                        err_set(&dump->failed, ERR_BUSY, "archive_disk", "cannot name the archive: %s",
                                strerror(errno));
        }
        json_decref(activity->reply);
        activity->reply = json_pack("{s:s, s:s, s:I, s:s?, s:i}", "location", dump->path, "kind", dump->kind, "bytes",
                                    (json_int_t)dump->bytes, "sha256", dump->checksum, "objects", dump->objects);
        activity_end_work(activity);
        if (dump->failed.class != ERR_NONE)
                unlink(dump->partial); /* the next attempt writes a file of its own, and the disk is everybody's */
        saga_resume(dump->saga, dump->failed.class == ERR_NONE ? NULL : &dump->failed);
        free_dump(dump);
}

/* The saga is let go: kills the process; what is left ends when its pipes do. */
static void abandon(void *work)
{
        struct dump *dump = work;

        CHECK_MAGIC(dump, DUMP_MAGIC);
        dump->saga = NULL;
        if (!uv_is_closing((uv_handle_t *)&dump->process))
                uv_process_kill(&dump->process, SIGKILL);
}

/* Something more urgent is wanted of the tenant: the dump ends, as a failure. */
static void interrupt(void *work)
{
        struct dump *dump = work;

        CHECK_MAGIC(dump, DUMP_MAGIC);
        if (!uv_is_closing((uv_handle_t *)&dump->process))
                uv_process_kill(&dump->process, SIGTERM);
        else
                err_set(&dump->failed, ERR_BUSY, "interrupted", "the dump was interrupted");
}

static enum step_result dumped(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_json *done = TAKE_PTR(activity->reply);
        auto_free char *text = json_print(done);

        if (err != NULL)
                return saga_retry(saga, err);
        FAILPOINT(backup_after_list, NULL);
        return saga_query(saga, SQL_RECORD, PARAMS(saga_id(saga), saga_fence(saga), saga_tenant(saga), text),
                          saga_rows_done);
}

/* Of attempts that died. One that is only late writes into a file without a name, and finds that it cannot give it one.
 */
static void remove_leftovers(const char *folder, const char *saga)
{
        DIR *directory = opendir(folder);
        struct dirent *entry;

        while (directory != NULL && (entry = readdir(directory)) != NULL) {
                size_t length = strlen(entry->d_name);

                if (strncmp(entry->d_name, saga, strlen(saga)) == 0 && length > strlen(PARTIAL) &&
                    strcmp(entry->d_name + length - strlen(PARTIAL), PARTIAL) == 0)
                        unlinkat(dirfd(directory), entry->d_name, 0);
        }
        if (directory != NULL)
                closedir(directory);
}

static int make_paths(struct dump *dump, struct err *err)
{
        const char *directory = dump->activity->provisioner->config->archive_directory;
        auto_free char *folder = mem_printf("%s/%s", directory, saga_tenant(dump->saga));

        if (mkdir(folder, 0700) < 0 && errno != EEXIST)
                return err_set(err, ERR_BUSY, "archive_disk", "cannot make a folder in ARCHIVE_DIRECTORY: %s",
                               strerror(errno));
        remove_leftovers(folder, saga_id(dump->saga));
        dump->path = mem_printf("%s/%s-%s.%s", folder, saga_id(dump->saga), saga_fence(dump->saga), dump->kind);
        dump->partial = mem_printf("%s" PARTIAL, dump->path);
        return 0;
}

/* Runs once identity is proved: what is dumped is this tenant's database and no other. */
static enum step_result start_dump(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        struct dump *dump;
        struct pg_target target;
        struct err err;

        activity_disconnect(activity);
        if (FAILPOINT(backup_before_dump, &err) < 0)
                return saga_retry(saga, &err);
        dump = NEW(struct dump);
        dump->magic = DUMP_MAGIC;
        dump->saga = saga;
        dump->activity = activity;
        dump->kind = json_text(saga_data(saga), "dump");
        if (activity->driver->target(activity, false, &target, &dump->password, &err) < 0 ||
            make_paths(dump, &err) < 0 ||
            sealed_writer_open(dump->partial, activity->provisioner->control_keys, saga_tenant(saga), &dump->writer,
                               &err) < 0) {
                free_dump(dump);
                return saga_retry(saga, &err);
        }
        dump->sslmode = target.sslmode ? target.sslmode : "prefer";
        activity_begin_work(activity, dump, abandon);
        activity->interrupt = interrupt;
        saga_await(saga, dumped);
        spawn(dump,
              (char *[]){ "pg_dump", "--format=custom", "--no-password", "--host", (char *)(uintptr_t)target.host,
                          "--port", (char *)(uintptr_t)target.port, "--username", (char *)(uintptr_t)target.user,
                          "--dbname", (char *)(uintptr_t)target.dbname, NULL },
              on_dump_bytes);
        return STEP_PENDING;
}

enum step_result dump_take(struct saga *saga, const char *kind)
{
        struct activity *activity = activity_of(saga);
        const char *status = activity_database(activity, "status");

        if (status == NULL || strcmp(status, "live") != 0)
                return STEP_DONE; /* there is nothing to dump */
        json_set_text(saga_data(saga), "dump", kind);
        return activity_connect(saga, false, false, start_dump);
}
