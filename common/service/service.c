/* The frame every service runs in: see service.h. */
#include "common/service/service.h"

#include "common/base/blocking.h"
#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/id.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/service/catalog_mode.h"
#include "common/service/census.h"
#include "common/service/configuration.h"
#include "common/service/health.h"
#include "common/service/ops.h"
#include "common/service/options.h"
#include "common/service/supervisor.h"

#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define STOP_DEADLINE  SECONDS(7)
#define CLOSE_DEADLINE 2 /* seconds: together less than the ten that orchestrators allow */
#define STOP_TIME      (STOP_DEADLINE + SECONDS(CLOSE_DEADLINE) + SECONDS(1))
#define STOP_INTERVAL  20

/* Bytes. What is larger goes back to the system when it is freed: glibc would raise this bound with each such block,
 * and keep later ones in a heap that never shrinks. */
#define LARGE_BLOCK (256 * 1024)
/* Heaps. glibc would give each of librdkafka's threads one of its own, and what one of them has freed is of no use to
 * the others. */
#define HEAPS 2

/* The only service in this process, for the handlers below that get no context. */
struct frame {
        struct service service;
        struct http_server *ops;
        struct catalog_mode *mode;
        struct census *census;
        struct supervisor *supervisor;
        uv_signal_t term, interrupt;
        uv_timer_t drain_timer, stop_timer;
        int64_t stop_by;
        int status;
};

static void service_close_handle(uv_handle_t *handle, void *context)
{
        (void)context;
        if (!uv_is_closing(handle))
                uv_close(handle, NULL);
}

static volatile sig_atomic_t exit_status;

/* librdkafka may block its worker thread for long when brokers are down: none of our code waits for it any more. */
static void service_on_close_deadline(int number)
{
        (void)number;
        _exit(exit_status);
}

static void service_close_frame(struct frame *frame)
{
        struct service *service = &frame->service;

        exit_status = frame->status;
        signal(SIGALRM, service_on_close_deadline);
        alarm(CLOSE_DEADLINE);
        transfers_end_all(service->transfers); /* while those who asked are there to hear it */
        service->definition->finish(service);
        catalog_mode_free(TAKE_PTR(frame->mode));
        census_free(TAKE_PTR(frame->census));
        supervisor_free(TAKE_PTR(frame->supervisor));
        pg_pool_free(TAKE_PTR(service->catalog));
        http_server_free(TAKE_PTR(frame->ops));
        transfers_free(TAKE_PTR(service->transfers));
        service_close_handle((uv_handle_t *)&frame->term, NULL);
        service_close_handle((uv_handle_t *)&frame->interrupt, NULL);
        service_close_handle((uv_handle_t *)&frame->drain_timer, NULL);
        service_close_handle((uv_handle_t *)&frame->stop_timer, NULL);
}

static void service_on_stop_timer(uv_timer_t *timer)
{
        struct frame *frame = timer->data;

        if (!frame->service.definition->idle(&frame->service) && clock_boot_ms() < frame->stop_by)
                return;
        uv_timer_stop(timer);
        service_close_frame(frame);
}

static void service_begin_stop(struct frame *frame)
{
        if (frame->service.stopping)
                return;
        frame->service.stopping = true;
        supervisor_stopping(frame->supervisor, STOP_TIME);
        uv_timer_stop(&frame->drain_timer);
        frame->stop_by = clock_boot_ms() + STOP_DEADLINE;
        frame->service.definition->stop(&frame->service);
        uv_timer_start(&frame->stop_timer, service_on_stop_timer, STOP_INTERVAL, STOP_INTERVAL);
}

static void service_drained(uv_timer_t *timer)
{
        log_info("stopping", NULL);
        service_begin_stop(timer->data);
}

/* A person who presses Ctrl-C, or sends a second signal, does not want to wait. */
static void service_on_signal(uv_signal_t *signal, int number)
{
        struct frame *frame = signal->data;
        struct service *service = &frame->service;
        const char *name = number == SIGTERM ? "SIGTERM" : "SIGINT";
        bool first = number == SIGTERM && !service->draining && !service->stopping;
        int64_t ms = first && service->definition->drain ? service->definition->drain(service) : 0;

        if (ms > 0) {
                log_info("draining", "signal", name, NULL);
                service->draining = true;
                supervisor_stopping(frame->supervisor, ms + STOP_TIME);
                uv_timer_start(&frame->drain_timer, service_drained, (uint64_t)ms, 0);
                return;
        }
        log_info("stopping", "signal", name, NULL);
        service_begin_stop(frame);
}

void service_give_up(struct service *service, const struct err *err)
{
        struct frame *frame = CONTAINER_OF(service, struct frame, service);

        log_error("giving up", "error", err->message, "code", err->code, NULL);
        frame->status = exit_status_of(err);
        service_begin_stop(frame);
}

/* On each connection: a catalog older than the program lacks things that its statements name, and counts as down until
 * `tenantry init` has brought it up to date. */
static const char SQL_FITTING[] =
        "do $t$ declare v text; begin "
        "if to_regprocedure('catalog.version()') is not null then v := catalog.version(); end if; "
        "if v is null or v collate \"C\" < '" TENANTRY_CATALOG "' then "
        "raise exception 'the catalog is at %, this program needs %: run \"tenantry init\" of its release', "
        "coalesce('version ' || v, 'an earlier release'), '" TENANTRY_CATALOG "' using errcode = 'TN426'; end if; "
        "if catalog.oldest_program() collate \"C\" > '" TENANTRY_CATALOG "' then "
        "raise exception 'the catalog is at version % and no longer works with this program, which is for %: "
        "install the newer release', v, '" TENANTRY_CATALOG "' using errcode = 'TN426'; end if; end $t$";

/* In production nothing may become due before its time. */
static const char SQL_CLOCK[] =
        "do $t$ begin if exists (select from catalog.business_clock where ahead <> interval '0') then "
        "raise exception 'the business clock of this catalog was advanced, which only a sandbox may do: start the "
        "service with "
        "SANDBOX=1, or with another catalog' using errcode = 'TN426'; end if; end $t$";

int service_catalog_fits(const struct service *service, struct err *err)
{
        const struct err *why = pg_pool_error(service->catalog);

        if (pg_pool_is_up(service->catalog))
                return 0;
        return err_set(err, ERR_BUSY, why->class == ERR_OURS ? "catalog_version" : "catalog_away", "%s", why->message);
}

static void service_open_catalog(struct frame *frame)
{
        struct service *service = &frame->service;
        auto_free char *setup =
                mem_printf("set search_path = %s, durable, catalog, pg_temp; set statement_timeout = '30s'; "
                           "set client_connection_check_interval = '1s'; "
                           "set idle_in_transaction_session_timeout = '60s'; %s; %s",
                           service->definition->schema, SQL_FITTING, service->config->sandbox ? "" : SQL_CLOCK);
        auto_free char *name = mem_printf("tenantry-%s", service->definition->name);
        struct pg_target target = {
                .url = service->config->catalog_url,
                .application_name = name,
                .setup = setup,
                .connect_timeout_ms = SECONDS(5),
                .is_ours = true,
        };

        service->catalog = pg_pool_new(&service->loop, &target, (size_t)service->config->catalog_pool_size);
        frame->mode = catalog_mode_new(service, &target);
        frame->census = census_new(service);
}

/* always 1: its labels say what is running. */
static void service_tell_build(const char *name)
{
        struct metric_family *info = metric_gauge_family("tenantry_build_info", "service,version,catalog",
                                                         "The program, and the catalog it needs at least.");

        metric_set(METRIC_OF(info, name, TENANTRY_VERSION, TENANTRY_CATALOG), 1);
}

static int service_start_frame(struct frame *frame, const void *config, struct err *err)
{
        struct service *service = &frame->service;
        int rc;

        service->config = config;
        service_tell_build(service->definition->name);
        snprintf(service->instance, sizeof(service->instance), "%.20s-%s", service->definition->name, id_new().text);
        uv_loop_init(&service->loop);
        uv_signal_init(&service->loop, &frame->term);
        uv_signal_init(&service->loop, &frame->interrupt);
        uv_timer_init(&service->loop, &frame->drain_timer);
        uv_timer_init(&service->loop, &frame->stop_timer);
        frame->term.data = frame->interrupt.data = frame->drain_timer.data = frame->stop_timer.data = frame;
        uv_signal_start(&frame->term, service_on_signal, SIGTERM);
        uv_signal_start(&frame->interrupt, service_on_signal, SIGINT);
        rc = ops_server_new(service, &frame->ops, err);
        if (rc < 0)
                return rc;
        service->transfers = transfers_new(&service->loop);
        service_open_catalog(frame);
        return service->definition->start(service, config, err);
}

/* Core dumps and /proc/PID/mem would reveal secrets. Files: as many as we may open. */
static void service_protect_process(void)
{
        struct rlimit files;

        prctl(PR_SET_DUMPABLE, 0);
        signal(SIGPIPE, SIG_IGN);
        umask(077);
        if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
                files.rlim_cur = files.rlim_max;
                setrlimit(RLIMIT_NOFILE, &files);
        }
}

/* The whole configuration: the options of every service, then those of this one. */
struct tables {
        struct config_table *items;
        size_t count;
};

static struct tables service_tables(const struct service_definition *definition)
{
        struct tables tables = { mem_alloc(1 + definition->table_count, sizeof(tables.items[0])), 1 };

        tables.items[0] = SERVICE_OPTIONS;
        for (size_t i = 0; i < definition->table_count; i++)
                tables.items[tables.count++] = definition->tables[i];
        return tables;
}

static int service_print_and_leave(const struct service_definition *definition, const char *what,
                                   const struct tables *tables)
{
        if (strcmp(what, "--help") == 0 || strcmp(what, "-h") == 0) {
                printf("tenantry-%s %s: %s\n\nUsage: tenantry-%s [--check-config | --health | --print-env | "
                       "--print-reference | --failpoints | --version]\n\n",
                       definition->name, TENANTRY_VERSION, definition->purpose, definition->name);
                fputs("Without an argument it serves until SIGTERM or SIGINT: then it takes no new work, finishes or "
                      "releases\n"
                      "what it has, and exits within ten seconds. A service behind a balancer first reports not ready, "
                      "but\n"
                      "keeps serving, for the time set by DRAIN; a second signal ends that.\n\n"
                      "  --check-config      reports what is wrong with the configuration, or that it is good; starts "
                      "nothing\n"
                      "  --health            asks the running service, with the same configuration, whether it is "
                      "ready: exit\n"
                      "                      code 0 or 1\n"
                      "  --print-env         a commented .env file with every option\n"
                      "  --print-reference   the same as a Markdown table\n"
                      "  --failpoints        names that FAILPOINTS may arm, for tests (SANDBOX=1)\n"
                      "  --version\n\n"
                      "Exit codes: 0 stopped cleanly, 1 failed (a restart may help), 2 configuration or argument is "
                      "wrong.\n\n"
                      "Example: TENANTRY_ENV_FILE=/etc/tenantry/service.env tenantry-SERVICE\n\n",
                      stdout);
                config_print_help(stdout, tables->items, tables->count);
        } else if (strcmp(what, "--version") == 0) {
                printf("tenantry-%s %s\n", definition->name, TENANTRY_VERSION);
        } else if (strcmp(what, "--failpoints") == 0) {
                for (int i = 0; i < FAILPOINT_COUNT; i++)
                        puts(failpoint_name((enum failpoint)i));
        } else if (strcmp(what, "--print-env") == 0) {
                config_print_env(stdout, tables->items, tables->count);
        } else if (strcmp(what, "--print-reference") == 0) {
                config_print_markdown(stdout, tables->items, tables->count);
        } else {
                fprintf(stderr, "tenantry-%s: unknown argument %s; see --help\n", definition->name, what);
                return EXIT_CONFIGURATION;
        }
        return 0;
}

static int service_load(const struct tables *tables, void *config, struct err *err)
{
        const struct service_config *common = config;
        int rc = config_load(config, tables->items, tables->count, err);

        if (rc == 0 && common->failpoints != NULL)
                rc = failpoint_arm(common->failpoints, err);
        return rc;
}

static void service_run_until_stopped(struct frame *frame)
{
        uv_run(&frame->service.loop, UV_RUN_DEFAULT);
        uv_run(&frame->service.loop, UV_RUN_NOWAIT);
}

int service_main(int argc, char **argv, const struct service_definition *definition)
{
        /* Allocated for the life of the process, but still reachable, so that leak checkers do not report it. */
        static struct tables tables;
        static struct frame *frame;
        static void *config;
        const struct service_config *common;
        struct err err = { 0 };

        frame = NEW(struct frame);
        common = config = mem_alloc(1, definition->config_size);
        tables = service_tables(definition);
        service_protect_process();
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
        mallopt(M_ARENA_MAX, HEAPS);
        setenv("UV_THREADPOOL_SIZE", BLOCKING_THREADS, 0); /* before the first thread is started */
        frame->service.definition = definition;
        if (argc > 1 && strcmp(argv[1], "--health") == 0)
                return health_ask(config);
        if (argc > 1 && strcmp(argv[1], "--check-config") != 0)
                return service_print_and_leave(definition, argv[1], &tables);
        log_init(definition->name, "info");
        if (service_load(&tables, config, &err) < 0) {
                log_error("the configuration is wrong", "field", err.field, "error", err.message, NULL);
                return EXIT_CONFIGURATION;
        }
        frame->service.kafka = (struct kafka_settings){
                .brokers = common->kafka_brokers,
                .properties = common->kafka_properties,
                .client_id = definition->name,
        };
        if (argc > 1)
                return configuration_check(tables.items, tables.count, &frame->service.kafka);
        log_set_level(common->log_level);
        configuration_warn(tables.items, tables.count, &frame->service.kafka);
        if (service_start_frame(frame, config, &err) < 0) {
                log_error("cannot start", "code", err.code, "error", err.message, NULL);
                return exit_status_of(&err);
        }
        log_info("started", "version", TENANTRY_VERSION, NULL);
        frame->supervisor = supervisor_new(&frame->service);
        service_run_until_stopped(frame);
        uv_loop_close(&frame->service.loop);
        alarm(0); /* everything it waited for has ended */
        log_info("stopped", NULL);
        return frame->status;
}
