/* The process's use of the machine: see process_metrics.h. */
#include "common/service/process_metrics.h"

#include "common/base/log.h"
#include "common/base/macros.h"
#include "common/base/metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void process_set_gauge(const char *name, const char *help, double value)
{
        metric_set(metric_gauge(name, NULL, help), value);
}

static double process_seconds_of(struct timeval time)
{
        return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void process_look_at_processor(void)
{
        struct metric *seconds = metric_counter("process_cpu_seconds_total", NULL, "Processor time, user and system.");
        struct rusage used;

        if (getrusage(RUSAGE_SELF, &used) == 0)
                metric_set(seconds, process_seconds_of(used.ru_utime) + process_seconds_of(used.ru_stime));
}

static void process_look_at_memory(void)
{
        FILE *in = fopen("/proc/self/statm", "re");
        double page = (double)sysconf(_SC_PAGESIZE);
        uint64_t all, resident;

        if (in == NULL)
                return;
        if (fscanf(in, "%" SCNu64 " %" SCNu64, &all, &resident) == 2) {
                process_set_gauge("process_virtual_memory_bytes", "Address space.", (double)all * page);
                process_set_gauge("process_resident_memory_bytes", "Memory in use.", (double)resident * page);
        }
        fclose(in);
}

static void process_look_at_files(void)
{
        DIR *open_files = opendir("/proc/self/fd");
        struct rlimit most;
        int count = 0;

        if (getrlimit(RLIMIT_NOFILE, &most) == 0)
                process_set_gauge("process_max_fds", "File descriptors it may open.", (double)most.rlim_cur);
        if (open_files == NULL)
                return;
        for (const struct dirent *entry; (entry = readdir(open_files)) != NULL;)
                count += entry->d_name[0] != '.';
        closedir(open_files);
        process_set_gauge("process_open_fds", "File descriptors it has open.",
                          count - 1); /* minus the one used for reading */
}

/* In ticks since the machine was booted: converted to the current wall clock, so that it follows when that is set. */
static void process_look_at_start(void)
{
        FILE *in = fopen("/proc/self/stat", "re");
        struct timespec wall, boot;
        char text[1024];
        const char *rest;
        uint64_t ticks;

        if (in == NULL)
                return;
        /* The second field is the program's name, in parentheses, and may hold spaces. */
        if (fgets(text, sizeof(text), in) != NULL && (rest = strrchr(text, ')')) != NULL &&
            sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64,
                   &ticks) == 1 &&
            clock_gettime(CLOCK_REALTIME, &wall) == 0 && clock_gettime(CLOCK_BOOTTIME, &boot) == 0)
                process_set_gauge("process_start_time_seconds", "When it was started, in seconds since 1970.",
                                  (double)(wall.tv_sec - boot.tv_sec) + (double)(wall.tv_nsec - boot.tv_nsec) / 1e9 +
                                          (double)ticks / (double)sysconf(_SC_CLK_TCK));
        fclose(in);
}

static void process_look_at_log(void)
{
        metric_set(
                metric_counter("tenantry_log_lines_lost_total", NULL, "Log lines dropped because nothing read them."),
                (double)log_lines_lost());
}

void process_metrics_look(void)
{
        process_look_at_log();
        process_look_at_processor();
        process_look_at_memory();
        process_look_at_files();
        process_look_at_start();
}
