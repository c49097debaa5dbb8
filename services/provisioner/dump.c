/* One encrypted dump of a tenant's database: see dump.h. The plain dump never touches a disk, and the loop never waits
 * for a disk: everything that touches the file (dump_file.c) runs on a worker thread, one call at a time, and nothing
 * more is read from pg_dump until what it has sent is written. */
#include "services/provisioner/dump.h"

#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "services/provisioner/dump_private.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define FAILED_DELAY MINUTES(5)                /* a dump is too much work to be retried every minute */
#define LOCKED_DELAY MINUTES(1)                /* one that waited for a lock has not done any */
#define LOCK_WAIT    "--lock-wait-timeout=10s" /* it occupies a slot for dumps meanwhile */

static const char SQL_RECORD[] = "select learn_backup($1::uuid, $2::bigint, $3::uuid, $4::jsonb) "
                                 "from saga_at($1::uuid, $2::bigint, $5)";

static void dump_free(struct dump *dump)
{
        dump_file_free(dump->file);
        blocking_free(dump->disk);
        free(dump->checksum);
        pg_free_environment(dump->environment);
        dump->magic = 0;
        free(dump);
}

bool dump_is_wanted(const struct dump *dump)
{
        return dump->saga != NULL && dump->failed.class == ERR_NONE;
}

static void dump_run_call(void *context)
{
        struct dump *dump = context;

        dump->run(dump);
}

static void dump_call_ended(void *context)
{
        struct dump *dump = context;

        CHECK_MAGIC(dump, DUMP_MAGIC);
        if (dump->failed.class == ERR_NONE)
                dump->failed = dump->disk_failed;
        dump->ended(dump);
}

void dump_call_disk(struct dump *dump, void (*run)(struct dump *dump), void (*ended)(struct dump *dump))
{
        dump->run = run;
        dump->ended = ended;
        dump->disk_failed = (struct err){ 0 };
        blocking_call(dump->disk, dump_run_call, dump_call_ended, dump);
}

/* Known messages of pg_dump: what to do about them, and whether they are transient. */
static const struct reason {
        const char *says, *code, *advice;
        enum err_class class;
        int64_t retry_after;
} REASONS[] = {
        /* That is --lock-wait-timeout: no other statement has a limit. */
        { "canceling statement due to", "dump_locked",
          "a session holds a lock on a table: the dump will be retried later", ERR_BUSY, LOCKED_DELAY },
        { "row-level security", "dump_refused",
          "the server's admin login must be a superuser or have BYPASSRLS (see docs/operations.md)", ERR_PERMANENT, 0 },
        { "permission denied for large object", "dump_failed", "the next attempt makes it readable again", ERR_BUSY,
          FAILED_DELAY },
        { "permission denied for", "dump_refused",
          "the server's admin login must be a superuser, or be granted what the product's migrations gave away",
          ERR_PERMANENT, 0 },
};

static void dump_process_failed(struct dump *dump)
{
        const char *program = dump->listing ? "pg_restore" : "pg_dump";

        if (dump->failed.class != ERR_NONE)
                return;
        dump->error_text[dump->error_length] = '\0';
        for (char *p = dump->error_text; *p; p++)
                if ((unsigned char)*p < 0x20)
                        *p = ' ';
        pg_hide_names(dump->error_text);
        for (size_t i = 0; i < ARRAY_SIZE(REASONS) && !dump->listing; i++)
                if (strstr(dump->error_text, REASONS[i].says) != NULL) {
                        err_set(&dump->failed, REASONS[i].class, REASONS[i].code, "%s; %s said: %.200s",
                                REASONS[i].advice, program, dump->error_text);
                        dump->failed.retry_after = REASONS[i].retry_after;
                        return;
                }
        err_set(&dump->failed, ERR_BUSY, "dump_failed", "%s ended with %lld: %.250s", program,
                (long long)dump->exit_status, dump->error_text);
        dump->failed.retry_after = FAILED_DELAY;
}

static void dump_complete_file(struct dump *dump)
{
        dump_file_complete(dump->file, &dump->disk_failed);
}

static void dump_on_file_completed(struct dump *dump)
{
        if (dump_is_wanted(dump) && FAILPOINT(backup_after_dump, &dump->failed) == 0)
                dump_start_listing(dump);
        else
                dump_finish(dump);
}

/* Process, all pipes and the call to the disk have ended: determines the outcome. */
static void dump_stage_ended(struct dump *dump)
{
        if (dump->exit_status != 0)
                dump_process_failed(dump);
        if (dump_is_wanted(dump) && !dump->listing)
                dump_call_disk(dump, dump_complete_file, dump_on_file_completed);
        else
                dump_finish(dump);
}

void dump_one_less(struct dump *dump)
{
        if (--dump->under_way == 0)
                dump_stage_ended(dump);
}

static void dump_on_closed(uv_handle_t *handle)
{
        struct dump *dump = handle->data;

        CHECK_MAGIC(dump, DUMP_MAGIC);
        dump_one_less(dump);
}

void dump_close_pipe(uv_pipe_t *pipe)
{
        if (!uv_is_closing((uv_handle_t *)pipe))
                uv_close((uv_handle_t *)pipe, dump_on_closed);
}

static void dump_kill_process(struct dump *dump, int signal)
{
        if (dump->running)
                uv_process_kill(&dump->process, signal);
}

static void dump_on_process_exit(uv_process_t *process, int64_t status, int signal)
{
        struct dump *dump = process->data;

        dump->running = false;
        dump->exit_status = signal ? 128 + signal : status;
        uv_close((uv_handle_t *)process, dump_on_closed);
        if (dump->listing) {
                dump->in_open = false;
                dump_close_pipe(&dump->in);
        }
}

static void dump_lend_buffer(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
        struct dump *dump = handle->data;

        (void)size;
        *buffer = uv_buf_init(dump->read_buffer + dump->read_length,
                              (unsigned)(sizeof(dump->read_buffer) - dump->read_length));
}

/* Uses a separate buffer: the other one may be being written to the disk. */
static void dump_lend_error_buffer(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
        static char text[ERROR_BYTES];

        (void)handle;
        (void)size;
        *buffer = uv_buf_init(text, sizeof(text));
}

static void dump_on_error_text(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
        struct dump *dump = stream->data;
        size_t room = sizeof(dump->error_text) - 1 - dump->error_length;

        if (length < 0) {
                dump_close_pipe(&dump->errors);
                return;
        }
        memcpy(dump->error_text + dump->error_length, buffer->base, MIN((size_t)length, room));
        dump->error_length += MIN((size_t)length, room);
}

static void dump_on_bytes(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer);

static void dump_write_bytes(struct dump *dump)
{
        dump_file_add(dump->file, dump->read_buffer, dump->read_length, &dump->disk_failed);
}

static void dump_bytes_written(struct dump *dump)
{
        dump->read_length = 0;
        if (dump->failed.class != ERR_NONE)
                dump_kill_process(dump, SIGTERM);
        if (!uv_is_closing((uv_handle_t *)&dump->out))
                uv_read_start((uv_stream_t *)&dump->out, dump_lend_buffer, dump_on_bytes);
        dump_one_less(dump);
}

/* pg_dump writes in small pieces: only a full buffer is worth handing to another thread. */
static void dump_on_bytes(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
        struct dump *dump = stream->data;

        (void)buffer;
        if (length < 0)
                dump_close_pipe(&dump->out);
        else
                dump->read_length += (size_t)length;
        if (!dump_is_wanted(dump))
                dump->read_length = 0;
        if (dump->read_length == 0 || (length >= 0 && dump->read_length < sizeof(dump->read_buffer)))
                return;
        uv_read_stop(stream);
        dump->under_way++;
        dump_call_disk(dump, dump_write_bytes, dump_bytes_written);
}

/* Borrows all of it. */
static char **dump_environment(struct dump *dump, char *path)
{
        size_t count = 0;
        char **all;

        while (!dump->listing && dump->environment[count] != NULL)
                count++;
        all = mem_alloc(count + 4, sizeof(all[0]));
        all[0] = path;
        all[1] = (char *)(uintptr_t) "LC_ALL=C.UTF-8";
        all[2] = (char *)(uintptr_t) "PGCONNECT_TIMEOUT=10";
        for (size_t i = 0; i < count; i++)
                all[3 + i] = dump->environment[i];
        return all;
}

int dump_spawn(struct dump *dump, char **arguments, uv_read_cb on_bytes)
{
        uv_loop_t *loop = &saga_service(dump->saga)->loop;
        auto_free char *path = mem_printf("PATH=%s", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
        auto_free char **environment = dump_environment(dump, path);
        uv_stdio_container_t stdio[3] = {
                { .flags = dump->listing ? UV_CREATE_PIPE | UV_READABLE_PIPE : UV_IGNORE,
                  .data = { .stream = (uv_stream_t *)&dump->in } },
                { .flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data = { .stream = (uv_stream_t *)&dump->out } },
                { .flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data = { .stream = (uv_stream_t *)&dump->errors } },
        };
        uv_process_options_t options = {
                .file = arguments[0],
                .args = arguments,
                .env = environment,
                .stdio = stdio,
                .stdio_count = 3,
                .exit_cb = dump_on_process_exit,
        };
        int rc;

        uv_pipe_init(loop, &dump->in, 0);
        uv_pipe_init(loop, &dump->out, 0);
        uv_pipe_init(loop, &dump->errors, 0);
        dump->in.data = dump->out.data = dump->errors.data = dump->process.data = dump;
        dump->under_way = 4;
        dump->error_length = 0;
        rc = uv_spawn(loop, &dump->process, &options);
        if (rc < 0) {
                dump->exit_status = 127;
                err_set(&dump->failed, ERR_BUSY, "dump_failed", "cannot run %s: %s", arguments[0], uv_strerror(rc));
                uv_close((uv_handle_t *)&dump->process, dump_on_closed);
                dump_close_pipe(&dump->out);
                dump_close_pipe(&dump->errors);
                dump_close_pipe(&dump->in);
                return rc;
        }
        dump->running = true;
        uv_read_start((uv_stream_t *)&dump->out, dump_lend_buffer, on_bytes);
        uv_read_start((uv_stream_t *)&dump->errors, dump_lend_error_buffer, dump_on_error_text);
        if (!dump->listing)
                dump_close_pipe(&dump->in);
        return 0;
}

/* Everything has ended: the saga, if it is still waiting, continues. */
static void dump_report(struct dump *dump)
{
        struct activity *activity = dump->activity;

        if (dump->saga != NULL) {
                json_decref(activity->reply);
                activity->reply = json_pack("{s:s, s:s, s:I, s:s?, s:i}", "location", dump_file_path(dump->file),
                                            "kind", dump->kind, "bytes", (json_int_t)dump->bytes, "sha256",
                                            dump->checksum, "objects", dump->objects);
                activity_end_work(activity);
                saga_resume(dump->saga, dump->failed.class == ERR_NONE ? NULL : &dump->failed);
        }
        dump_free(dump);
}

static void dump_remove_file(struct dump *dump)
{
        dump_file_remove(dump->file);
}

/* The next attempt writes its own file, and disk space is shared. */
static void dump_give_up(struct dump *dump)
{
        dump_call_disk(dump, dump_remove_file, dump_report);
}

static void dump_name_file(struct dump *dump)
{
        dump_file_name(dump->file, &dump->disk_failed);
}

/* Without the lease nobody records it: the process that took over the saga makes its own dump. */
static void dump_check_lease(struct dump *dump)
{
        if (dump_is_wanted(dump) && !saga_is_ours(dump->saga))
                err_set(&dump->failed, ERR_BUSY, "lease_lost", "the lease expired during the dump");
}

static void dump_on_file_named(struct dump *dump)
{
        dump_check_lease(dump);
        if (dump_is_wanted(dump))
                dump_report(dump);
        else
                dump_give_up(dump);
}

/* The file counts only now: complete, durable, readable. */
void dump_finish(struct dump *dump)
{
        if (dump->failed.class == ERR_NONE && dump->objects == 0)
                err_set(&dump->failed, ERR_BUSY, "dump_empty", "the dump contains no objects");
        dump_check_lease(dump);
        if (!dump_is_wanted(dump)) {
                dump_give_up(dump);
                return;
        }
        dump->checksum = dump_file_checksum(dump->file, &dump->bytes);
        dump_call_disk(dump, dump_name_file, dump_on_file_named);
}

/* The saga is dropped: kills the process; the rest ends when its pipes and the disk call do. */
static void dump_abandon(void *work)
{
        struct dump *dump = work;

        CHECK_MAGIC(dump, DUMP_MAGIC);
        dump->saga = NULL;
        dump->activity = NULL;
        dump_kill_process(dump, SIGKILL);
}

/* Something more urgent is wanted for the tenant: the dump is aborted, as a failure. */
static void dump_interrupt(void *work)
{
        struct dump *dump = work;

        CHECK_MAGIC(dump, DUMP_MAGIC);
        if (dump->running)
                dump_kill_process(dump, SIGTERM);
        else
                err_set(&dump->failed, ERR_BUSY, "interrupted", "the dump was interrupted");
}

static enum step_result dump_ended(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_json *done = TAKE_PTR(activity->reply);
        auto_free char *text = json_print(done);

        if (err != NULL)
                return saga_retry(saga, err);
        FAILPOINT(backup_after_list, NULL);
        return saga_query(saga, SQL_RECORD,
                          PARAMS(saga_id(saga), saga_fence(saga), saga_tenant(saga), text, saga_step_name(saga)),
                          saga_rows_done);
}

static void dump_create_file(struct dump *dump)
{
        dump_file_create(dump->file, &dump->disk_failed);
}

static void dump_start_process(struct dump *dump)
{
        struct activity *activity = dump->activity;
        auto_secret char *keep = NULL;
        struct pg_target target;

        if (tenant_target(&activity->provisioner->access, activity->facts,
                          activity->driver->dumps_as_admin ? TENANT_ADMIN : TENANT_OWNER, &target, &keep,
                          &dump->failed) < 0) {
                dump_finish(dump);
                return;
        }
        dump->environment = pg_environment(&target);
        dump_spawn(dump, (char *[]){ "pg_dump", "--format=custom", "--no-password", LOCK_WAIT, NULL }, dump_on_bytes);
}

static void dump_on_file_created(struct dump *dump)
{
        if (dump_is_wanted(dump))
                dump_start_process(dump);
        else
                dump_finish(dump);
}

/* Runs only after identity is proved: so it is this tenant's database that is dumped. */
static enum step_result dump_start(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        struct provisioner *provisioner = activity->provisioner;
        struct dump *dump;
        struct err err;

        activity_disconnect(activity);
        if (FAILPOINT(backup_before_dump, &err) < 0)
                return saga_retry(saga, &err);
        dump = NEW(struct dump);
        dump->magic = DUMP_MAGIC;
        dump->saga = saga;
        dump->activity = activity;
        dump->disk = blocking_share(provisioner->disk);
        dump->kind = json_text(saga_data(saga), "dump");
        dump->file = dump_file_new(provisioner->config->archive_directory, saga_tenant(saga), saga_id(saga),
                                   saga_fence(saga), dump->kind, provisioner->control_keys);
        activity_begin_work(activity, dump, dump_abandon);
        activity->interrupt = dump_interrupt;
        saga_await(saga, dump_ended);
        dump_call_disk(dump, dump_create_file, dump_on_file_created);
        return STEP_PENDING;
}

static enum step_result dump_prepare(struct saga *saga)
{
        const struct driver *driver = activity_of(saga)->driver;

        return driver->prepare_dump ? driver->prepare_dump(saga, dump_start) : dump_start(saga);
}

enum step_result dump_take(struct saga *saga, const char *kind)
{
        if (!activity_is_live(activity_of(saga)))
                return STEP_DONE; /* there is nothing to dump */
        json_set_text(saga_data(saga), "dump", kind);
        return activity_connect(saga, activity_of(saga)->driver->dumps_as_admin, false, dump_prepare);
}
