/* Is pg_dump there, and new enough? See dump_tools.h. */
#include "services/provisioner/dump_tools.h"

#include "common/base/log.h"
#include "common/base/memory.h"

#include <stdlib.h>
#include <string.h>

#define VERSION_BYTES 128

static const char SQL_VERSION[] = "select current_setting('server_version_num')::int / 10000 as version";

static const char SQL_ALERT[] =
        "select catalog.raise_alert('dump-tools', null, 'backups and archives cannot be made', $1)";

static const char SQL_RESOLVE[] = "select catalog.resolve_alert('dump-tools')";

struct dump_tools {
        struct provisioner *provisioner;
        uv_process_t process;
        uv_pipe_t out;
        int handles, version;
        char text[VERSION_BYTES];
        size_t length;
        bool freed;
};

/* One server being asked. */
struct question {
        struct dump_tools *tools;
        char *server;
};

static void tools_alert_told(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        if (err != NULL)
                log_warn("an alert could not be raised", "cause", "dump-tools", "error", err->message, NULL);
}

static void tools_complain(struct dump_tools *tools, const char *detail)
{
        struct pg_pool *catalog = tools->provisioner->service->catalog;

        log_warn("backups and archives cannot be made", "error", detail, NULL);
        pg_pool_exec(catalog, SECONDS(60), SQL_ALERT, PARAMS(detail), tools_alert_told, NULL);
}

static void tools_version_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct question *question = context;
        struct dump_tools *tools = question->tools;
        auto_free char *server = TAKE_PTR(question->server), *detail = NULL;

        free(question);
        if (err != NULL || pg_int(rows, 0, "version") <= tools->version)
                return; /* a server that is down is not checked: pg_dump itself will refuse a newer one */
        detail = mem_printf("pg_dump has version %d, but the server %s has version %d: install its client tools",
                            tools->version, server, (int)pg_int(rows, 0, "version"));
        tools_complain(tools, detail);
}

static void tools_ask_server(void *context, const char *name)
{
        struct dump_tools *tools = context;
        struct question *question = NEW(struct question);

        question->tools = tools;
        question->server = mem_copy_text(name);
        pg_pool_exec(servers_admin(tools->provisioner->access.servers, name), SECONDS(10), SQL_VERSION, NO_PARAMS,
                     tools_version_arrived, question);
}

static void tools_compare_versions(struct dump_tools *tools)
{
        const char *digits = tools->text + strcspn(tools->text, "0123456789");

        tools->text[MIN(tools->length, VERSION_BYTES - 1)] = '\0';
        tools->version = atoi(digits);
        if (tools->version == 0) {
                tools_complain(tools, "pg_dump cannot be run: install PostgreSQL's client tools");
                return;
        }
        pg_pool_exec(tools->provisioner->service->catalog, SECONDS(60), SQL_RESOLVE, NO_PARAMS, tools_alert_told, NULL);
        servers_each(tools->provisioner->access.servers, tools_ask_server, tools);
}

static void tools_on_closed(uv_handle_t *handle)
{
        struct dump_tools *tools = handle->data;

        if (--tools->handles > 0)
                return;
        if (tools->freed)
                free(tools);
        else
                tools_compare_versions(tools);
}

static void tools_close_handle(uv_handle_t *handle)
{
        if (!uv_is_closing(handle))
                uv_close(handle, tools_on_closed);
}

static void tools_on_exit(uv_process_t *process, int64_t status, int signal)
{
        (void)status;
        (void)signal;
        tools_close_handle((uv_handle_t *)process);
}

static void tools_lend_buffer(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
        struct dump_tools *tools = handle->data;

        (void)size;
        *buffer = uv_buf_init(tools->text + tools->length, (unsigned)(VERSION_BYTES - 1 - tools->length));
}

static void tools_on_text(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
        struct dump_tools *tools = stream->data;

        (void)buffer;
        if (length > 0)
                tools->length += (size_t)length;
        else if (length < 0)
                tools_close_handle((uv_handle_t *)&tools->out);
}

struct dump_tools *dump_tools_new(struct provisioner *provisioner)
{
        struct dump_tools *tools = NEW(struct dump_tools);
        uv_loop_t *loop = &provisioner->service->loop;
        char *arguments[] = { "pg_dump", "--version", NULL };
        uv_stdio_container_t stdio[2] = {
                { .flags = UV_IGNORE },
                { .flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data = { .stream = (uv_stream_t *)&tools->out } },
        };
        uv_process_options_t options = {
                .file = arguments[0],
                .args = arguments,
                .stdio = stdio,
                .stdio_count = 2,
                .exit_cb = tools_on_exit,
        };

        tools->provisioner = provisioner;
        tools->handles = 2;
        uv_pipe_init(loop, &tools->out, 0);
        tools->out.data = tools->process.data = tools;
        if (uv_spawn(loop, &tools->process, &options) < 0) {
                tools_close_handle((uv_handle_t *)&tools->process);
                tools_close_handle((uv_handle_t *)&tools->out);
        } else {
                uv_read_start((uv_stream_t *)&tools->out, tools_lend_buffer, tools_on_text);
        }
        return tools;
}

void dump_tools_free(struct dump_tools *tools)
{
        if (tools == NULL)
                return;
        tools->freed = true;
        if (tools->handles == 0) {
                free(tools);
                return;
        }
        tools_close_handle((uv_handle_t *)&tools->process);
        tools_close_handle((uv_handle_t *)&tools->out);
}
