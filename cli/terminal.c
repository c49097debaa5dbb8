/* Text for people, JSON for machines: see terminal.h. */
#include "cli/terminal.h"

#include "cli/cli.h"
#include "cli/yaml.h"

#include "common/base/memory.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEFAULT_WIDTH 100

bool terminal_is(FILE *stream)
{
        return isatty(fileno(stream)) == 1;
}

bool terminal_reader_gone(void)
{
        struct pollfd output = { .fd = STDOUT_FILENO };

        return poll(&output, 1, 0) == 1 && (output.revents & POLLERR) != 0;
}

static struct winsize terminal_window(void)
{
        struct winsize size = { 0 };

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
                size = (struct winsize){ 0 };
        return size;
}

int terminal_width(void)
{
        int width = terminal_window().ws_col;

        return width >= 20 ? width : DEFAULT_WIDTH;
}

int terminal_height(void)
{
        int height = terminal_window().ws_row;

        return height >= 4 ? height : 24;
}

/* Only ends a wait early: a process whose terminal is not its controlling terminal (under script, expect) never gets
 * the signal. */
static void terminal_on_resize(int number)
{
        (void)number;
}

bool terminal_resized(void)
{
        static struct winsize known;
        struct sigaction action = { .sa_handler = terminal_on_resize }, before;
        struct winsize size = terminal_window();
        bool changed = known.ws_col != 0 && (size.ws_col != known.ws_col || size.ws_row != known.ws_row);

        known = size;
        if (sigaction(SIGWINCH, NULL, &before) == 0 && before.sa_handler != terminal_on_resize)
                sigaction(SIGWINCH, &action, NULL); /* no SA_RESTART: waits end early */
        return changed;
}

void print_json(const json_t *value)
{
        size_t flags = terminal_is(stdout) ? JSON_INDENT(2) | JSON_ENSURE_ASCII : JSON_COMPACT;

        if (cli_output == OUTPUT_YAML) {
                yaml_print(value, stdout);
                return;
        }
        json_dumpf(value, stdout, flags | JSON_ENCODE_ANY);
        putchar('\n');
}

void print_json_line(const json_t *value)
{
        if (cli_output == OUTPUT_YAML) {
                puts("---");
                yaml_print(value, stdout);
                fflush(stdout);
                return;
        }
        json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY | (terminal_is(stdout) ? JSON_ENSURE_ASCII : 0));
        putchar('\n');
        fflush(stdout);
}

void print_pair(const char *name, const char *value)
{
        auto_free char *safe = text_safe(value);

        if (value != NULL)
                printf("%-13s %s\n", name, safe);
}

void progress_bar(char *out, size_t size, int width, int percent)
{
        static const char full[] = "####################", empty[] = "--------------------";
        int filled;

        percent = MAX(0, MIN(100, percent));
        width = MIN(width, PROGRESS_BAR_WIDTH);
        filled = percent * width / 100;
        if (width > 0)
                snprintf(out, size, "[%.*s%.*s] %3d %%", filled, full, width - filled, empty, percent);
        else
                snprintf(out, size, "%3d %%", percent);
}

const char *colour_of(const char *word)
{
        static const struct {
                const char *word, *colour;
        } colours[] = {
                { .word = "ready", .colour = "\033[32m" },        { .word = "good", .colour = "\033[32m" },
                { .word = "ours", .colour = "\033[32m" },         { .word = "bad", .colour = "\033[31m" },
                { .word = "attention", .colour = "\033[31m" },    { .word = "orphan", .colour = "\033[31m" },
                { .word = "ghost", .colour = "\033[31m" },        { .word = "drift", .colour = "\033[31m" },
                { .word = "requested", .colour = "\033[33m" },    { .word = "archived", .colour = "\033[2m" },
                { .word = "provisioning", .colour = "\033[33m" }, { .word = "skipped", .colour = "\033[2m" },
                { .word = "quarantined", .colour = "\033[33m" },  { .word = "suspended", .colour = "\033[35m" },
        };

        if (!terminal_is(stdout) || getenv("NO_COLOR") != NULL)
                return "";
        for (size_t i = 0; i < ARRAY_SIZE(colours); i++)
                if (strcmp(colours[i].word, word) == 0)
                        return colours[i].colour;
        return "";
}

const char *colour_end(void)
{
        return "\033[0m";
}
