/* Loads a backup into a database: see restore_load.h. As with a dump, the plain bytes never touch a disk and the loop
 * never waits for a disk: pieces of the file are read and decrypted on a worker thread, one at a time, and the next one
 * is read when pg_restore has consumed the last. */
#include "services/provisioner/restore_load.h"

#include "common/base/blocking.h"
#include "common/base/memory.h"
#include "common/base/sealed_file.h"
#include "services/provisioner/activity.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOAD_MAGIC     0x6c6f6164
#define LINE_BYTES     400
#define BUSY_DELAY     MINUTES(1) /* a restore is too much work to be retried at once */
#define PIECES_A_CALL  32         /* of 64 KiB, once pg_restore has read enough */
#define ERROR_PREFIX   "pg_restore: error: "
#define COMMAND_PREFIX "Command was: "

/* Lives until process, pipes and the call to the disk have ended, even if its saga was dropped before. */
struct load {
        unsigned magic;
        struct saga *saga; /* NULL once abandoned, and so is the activity */
        struct activity *activity;
        struct blocking *disk;
        const char *directory;
        char *file, *database, *sha256;
        struct sealed_reader *reader;
        uv_process_t process;
        uv_pipe_t in, errors;
        uv_write_t write;
        int under_way; /* open handles, plus the call to the disk */
        bool running, in_open, in_error;
        int64_t exit_status;
        struct err failed;
        /* What pg_restore says, line by line. */
        char line[LINE_BYTES], error[LINE_BYTES], worst[LINE_BYTES];
        size_t line_length;
        int error_count, forgiven;
        /* The call to the disk: these belong to its thread until it has ended. */
        void (*run)(struct load *load), (*ended)(struct load *load);
        struct err disk_failed;
        const unsigned char *piece;
        ssize_t piece_length;
};

static void load_free(struct load *load)
{
        sealed_reader_free(load->reader);
        blocking_free(load->disk);
        free(load->file);
        free(load->database);
        free(load->sha256);
        load->magic = 0;
        free(load);
}

static bool load_is_wanted(const struct load *load)
{
        return load->saga != NULL && load->failed.class == ERR_NONE;
}

static void load_run_call(void *context)
{
        struct load *load = context;

        load->run(load);
}

static void load_call_ended(void *context)
{
        struct load *load = context;

        CHECK_MAGIC(load, LOAD_MAGIC);
        if (load->failed.class == ERR_NONE)
                load->failed = load->disk_failed;
        load->ended(load);
}

static void load_call_disk(struct load *load, void (*run)(struct load *load), void (*ended)(struct load *load))
{
        load->run = run;
        load->ended = ended;
        load->disk_failed = (struct err){ 0 };
        blocking_call(load->disk, load_run_call, load_call_ended, load);
}

static bool load_names_any_of(const char *text, const char *const *words, size_t count)
{
        for (size_t i = 0; i < count; i++)
                if (strstr(text, words[i]) != NULL)
                        return true;
        return false;
}

/* Transient errors: all others are faults of the backup or the server, and would recur. */
static bool load_may_pass(const char *message)
{
        static const char *const words[] = { "connection to server",   "server closed the connection",
                                             "terminating connection", "No space left",
                                             "too many connections",   "the database system is" };

        return load_names_any_of(message, words, ARRAY_SIZE(words));
}

static void load_process_failed(struct load *load)
{
        const char *said = *load->worst ? load->worst : load->error;
        bool passes = load->exit_status > 128 || *said == '\0' || load_may_pass(said);

        pg_hide_names((char *)(uintptr_t)said);
        err_set(&load->failed, passes ? ERR_BUSY : ERR_PERMANENT, "restore_failed",
                "pg_restore ended with %lld: %.250s", (long long)load->exit_status,
                *said ? said : "it did not say why");
        load->failed.retry_after = passes ? BUSY_DELAY : 0;
}

static void load_check_file(struct load *load)
{
        auto_free char *sha256 = NULL;

        if (load->piece_length > 0) {
                err_set(&load->failed, ERR_BUSY, "restore_failed", "the backup was not read completely");
                return;
        }
        sha256 = sealed_reader_checksum(load->reader);
        if (load->sha256 != NULL && strcmp(sha256, load->sha256) != 0)
                err_set(&load->failed, ERR_PERMANENT, "backup_changed",
                        "the file is intact, but its SHA-256 is not the one in the catalog");
}

static void load_report(struct load *load)
{
        if (load->saga != NULL) {
                activity_end_work(load->activity);
                saga_resume(load->saga, load->failed.class == ERR_NONE ? NULL : &load->failed);
        }
        load_free(load);
}

/* Process, pipes and the call to the disk have ended: determines the outcome. */
static void load_finish(struct load *load)
{
        bool forgiven = load->exit_status == 1 && load->error_count > 0 && load->error_count == load->forgiven;

        if (load->failed.class == ERR_NONE && load->exit_status != 0 && !forgiven)
                load_process_failed(load);
        if (load_is_wanted(load))
                load_check_file(load);
        load_report(load);
}

static void load_one_less(struct load *load)
{
        if (--load->under_way == 0)
                load_finish(load);
}

static void load_on_closed(uv_handle_t *handle)
{
        struct load *load = handle->data;

        CHECK_MAGIC(load, LOAD_MAGIC);
        load_one_less(load);
}

static void load_close_pipe(uv_pipe_t *pipe)
{
        if (!uv_is_closing((uv_handle_t *)pipe))
                uv_close((uv_handle_t *)pipe, load_on_closed);
}

static void load_kill_process(struct load *load, int signal)
{
        if (load->running)
                uv_process_kill(&load->process, signal);
}

static void load_on_process_exit(uv_process_t *process, int64_t status, int signal)
{
        struct load *load = process->data;

        load->running = false;
        load->exit_status = signal ? 128 + signal : status;
        load->in_open = false;
        load_close_pipe(&load->in);
        uv_close((uv_handle_t *)process, load_on_closed);
}

/* A newer pg_restore begins with "SET NAME_timeout = 0;", even if the server does not know that setting: a server
 * without it has no such limit, which is what is wanted. */
static bool load_is_unknown_limit(const char *command)
{
        size_t name = strncmp(command, "SET ", 4) == 0 ? strspn(command + 4, "abcdefghijklmnopqrstuvwxyz_") : 0;
        const char *end = command + 4 + name;

        return name > strlen("_timeout") && strncmp(end - strlen("_timeout"), "_timeout", strlen("_timeout")) == 0 &&
               strcmp(end, " = 0;") == 0;
}

static void load_hear_line(struct load *load)
{
        char *line = load->line;

        line[load->line_length] = '\0';
        load->line_length = 0;
        if (strncmp(line, ERROR_PREFIX, strlen(ERROR_PREFIX)) == 0) {
                if (load->in_error && *load->worst == '\0')
                        memcpy(load->worst, load->error, sizeof(load->worst));
                load->in_error = true;
                load->error_count++;
                snprintf(load->error, sizeof(load->error), "%s", line + strlen(ERROR_PREFIX));
        } else if (load->in_error && strncmp(line, COMMAND_PREFIX, strlen(COMMAND_PREFIX)) == 0) {
                load->in_error = false;
                if (load_is_unknown_limit(line + strlen(COMMAND_PREFIX)))
                        load->forgiven++;
                else if (*load->worst == '\0')
                        memcpy(load->worst, load->error, sizeof(load->worst));
                if (*load->worst != '\0')
                        load_kill_process(load, SIGTERM); /* the rest cannot make it complete */
        }
}

static void load_lend_buffer(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
        static char text[LINE_BYTES];

        (void)handle;
        (void)size;
        *buffer = uv_buf_init(text, sizeof(text));
}

static void load_on_error_text(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
        struct load *load = stream->data;

        for (ssize_t i = 0; i < length; i++) {
                unsigned char c = (unsigned char)buffer->base[i];

                if (c == '\n')
                        load_hear_line(load);
                else if (load->line_length < sizeof(load->line) - 1)
                        load->line[load->line_length++] = (char)(c < 0x20 ? ' ' : c);
        }
        if (length >= 0)
                return;
        load_hear_line(load);
        load_close_pipe(&load->errors);
}

static void load_read_on(struct load *load);

static void load_on_written(uv_write_t *write, int status)
{
        struct load *load = write->data;

        load->in_open = load->in_open && status == 0;
        load_read_on(load);
        load_one_less(load);
}

static void load_piece_read(struct load *load)
{
        uv_buf_t buffer;

        load->write.data = load;
        if (load->piece_length <= 0 || !load_is_wanted(load) || *load->worst != '\0') {
                if (load->failed.class != ERR_NONE)
                        load_kill_process(load, SIGTERM); /* otherwise it would take half a backup for a complete one */
                load_close_pipe(&load->in);
        } else if (!load->in_open) {
                load_read_on(load); /* it has read enough; the rest is decrypted to prove that it can be */
        } else {
                buffer = uv_buf_init((char *)(uintptr_t)load->piece, (unsigned)load->piece_length);
                load->under_way++;
                if (uv_write(&load->write, (uv_stream_t *)&load->in, &buffer, 1, load_on_written) < 0) {
                        load->under_way--;
                        load->in_open = false;
                        load_read_on(load);
                }
        }
        load_one_less(load);
}

static void load_read_piece(struct load *load)
{
        load->piece_length = sealed_reader_next(load->reader, &load->piece, &load->disk_failed);
}

static void load_read_pieces(struct load *load)
{
        for (int i = 0; i < PIECES_A_CALL && (i == 0 || load->piece_length > 0); i++)
                load_read_piece(load);
}

static void load_read_on(struct load *load)
{
        load->under_way++;
        load_call_disk(load, load->in_open ? load_read_piece : load_read_pieces, load_piece_read);
}

/* Borrows all of it. */
static char **load_environment(char **connection, char *path)
{
        size_t count = 0;
        char **all;

        while (connection[count] != NULL)
                count++;
        all = mem_alloc(count + 4, sizeof(all[0]));
        all[0] = path;
        all[1] = (char *)(uintptr_t) "LC_ALL=C.UTF-8";
        all[2] = (char *)(uintptr_t) "PGCONNECT_TIMEOUT=10";
        for (size_t i = 0; i < count; i++)
                all[3 + i] = connection[i];
        return all;
}

static int load_spawn(struct load *load, char **connection)
{
        auto_free char *path = mem_printf("PATH=%s", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
        auto_free char **environment = load_environment(connection, path);
        char *arguments[] = { "pg_restore", "--no-password", "--dbname", load->database, NULL };
        uv_stdio_container_t stdio[3] = {
                { .flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data = { .stream = (uv_stream_t *)&load->in } },
                { .flags = UV_IGNORE },
                { .flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data = { .stream = (uv_stream_t *)&load->errors } },
        };
        uv_process_options_t options = {
                .file = arguments[0],
                .args = arguments,
                .env = environment,
                .stdio = stdio,
                .stdio_count = 3,
                .exit_cb = load_on_process_exit,
        };
        uv_loop_t *loop = &saga_service(load->saga)->loop;
        int rc;

        uv_pipe_init(loop, &load->in, 0);
        uv_pipe_init(loop, &load->errors, 0);
        load->in.data = load->errors.data = load->process.data = load;
        load->under_way = 3;
        rc = uv_spawn(loop, &load->process, &options);
        if (rc < 0) {
                err_set(&load->failed, ERR_BUSY, "restore_failed", "cannot run pg_restore: %s", uv_strerror(rc));
                uv_close((uv_handle_t *)&load->process, load_on_closed);
                load_close_pipe(&load->in);
                load_close_pipe(&load->errors);
                return rc;
        }
        load->running = load->in_open = true;
        uv_read_start((uv_stream_t *)&load->errors, load_lend_buffer, load_on_error_text);
        return 0;
}

static void load_start_pg_restore(struct load *load)
{
        auto_secret char *password = NULL;
        struct pg_target target;
        char **connection;

        if (sealed_reader_unlock(load->reader, load->activity->provisioner->control_keys, &load->failed) < 0 ||
            tenant_target(&load->activity->provisioner->access, load->activity->facts, TENANT_OWNER, &target, &password,
                          &load->failed) < 0) {
                load_report(load);
                return;
        }
        connection = pg_environment(&target);
        if (load_spawn(load, connection) == 0)
                load_read_on(load);
        pg_free_environment(connection);
}

static void load_file_opened(struct load *load)
{
        if (load_is_wanted(load))
                load_start_pg_restore(load);
        else
                load_report(load);
}

/* A missing directory may come back; a file missing in it will not. */
static void load_open_file(struct load *load)
{
        auto_free char *path = mem_printf("%s/%s", load->directory, load->file);

        if (access(load->directory, X_OK) == 0 && access(path, F_OK) < 0 && errno == ENOENT)
                err_set(&load->disk_failed, ERR_PERMANENT, "backup_missing", "%.120s is not in ARCHIVE_DIRECTORY",
                        load->file);
        else
                sealed_reader_open(path, &load->reader, &load->disk_failed);
}

/* The saga is dropped: kills the process; the rest ends when its pipes and the disk call do. */
static void load_abandon(void *work)
{
        struct load *load = work;

        CHECK_MAGIC(load, LOAD_MAGIC);
        load->saga = NULL;
        load->activity = NULL;
        load_kill_process(load, SIGKILL);
}

/* Something more urgent is wanted for the tenant. */
static void load_interrupt(void *work)
{
        struct load *load = work;

        CHECK_MAGIC(load, LOAD_MAGIC);
        if (load->failed.class == ERR_NONE)
                err_set(&load->failed, ERR_BUSY, "interrupted", "the restore was interrupted");
        load_kill_process(load, SIGTERM);
}

enum step_result restore_load(struct saga *saga, const char *database, saga_then then)
{
        struct activity *activity = activity_of(saga);
        const json_t *restore = json_object_get(activity->facts, "restore");
        struct load *load = NEW(struct load);

        load->magic = LOAD_MAGIC;
        load->saga = saga;
        load->activity = activity;
        load->disk = blocking_share(activity->provisioner->disk);
        load->directory = activity->provisioner->config->archive_directory;
        load->file = mem_copy_text(json_text(restore, "file"));
        load->sha256 = mem_copy_text(json_text(restore, "sha256"));
        load->database = mem_copy_text(database);
        activity_begin_work(activity, load, load_abandon);
        activity->interrupt = load_interrupt;
        saga_await(saga, then);
        load_call_disk(load, load_open_file, load_file_opened);
        return STEP_PENDING;
}
