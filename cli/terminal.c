/* Text for people, JSON for machines: see terminal.h. */
#include "cli/terminal.h"

#include "common/base/buf.h"
#include "common/base/memory.h"

#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BAR_WIDTH     20
#define COLUMN_LIMIT  12
#define DEFAULT_WIDTH 100
#define ELLIPSIS      "\u2026"

bool terminal_is(FILE *stream)
{
        return isatty(fileno(stream)) == 1;
}

bool terminal_reader_gone(void)
{
        struct pollfd output = { .fd = STDOUT_FILENO };

        return poll(&output, 1, 0) == 1 && (output.revents & POLLERR) != 0;
}

static struct winsize window(void)
{
        struct winsize size = { 0 };

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
                size = (struct winsize){ 0 };
        return size;
}

int terminal_width(void)
{
        int width = window().ws_col;

        return width >= 20 ? width : DEFAULT_WIDTH;
}

int terminal_height(void)
{
        int height = window().ws_row;

        return height >= 4 ? height : 24;
}

/* Decodes one character; returns its length, 0 for what is no UTF-8. */
static size_t decode(const unsigned char *p, size_t left, unsigned *ret)
{
        size_t length = *p < 0x80 ? 1 : (*p & 0xe0) == 0xc0 ? 2 : (*p & 0xf0) == 0xe0 ? 3 : (*p & 0xf8) == 0xf0 ? 4 : 0;
        static const unsigned least[] = { 0, 0, 0x80, 0x800, 0x10000 };
        unsigned value;

        if (length == 0 || length > left)
                return 0;
        value = length == 1 ? *p : *p & (0xffu >> (length + 1));
        for (size_t i = 1; i < length; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                value = value << 6 | (p[i] & 0x3f);
        }
        if (value < least[length] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
                return 0;
        *ret = value;
        return length;
}

static bool is_harmful(unsigned c)
{
        return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0x200e || c == 0x200f ||
               (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

char *text_safe_bytes(const void *bytes, size_t length, bool lines)
{
        const unsigned char *p = bytes;
        struct buf out = { 0 };

        for (size_t i = 0; i < length;) {
                unsigned c = 0;
                size_t n = decode(p + i, length - i, &c);

                if (n > 0 && (!is_harmful(c) || (lines && (c == '\n' || c == '\t')))) {
                        buf_add(&out, p + i, n);
                        i += n;
                        continue;
                }
                for (n = MAX(n, 1); n > 0; n--)
                        buf_printf(&out, "\\x%02x", p[i++]);
        }
        return buf_take(&out);
}

char *text_safe(const char *text)
{
        return text_safe_bytes(text ? text : "", text ? strlen(text) : 0, false);
}

size_t text_width(const char *text)
{
        size_t width = 0;

        for (; *text; text++)
                width += ((unsigned char)*text & 0xc0) != 0x80;
        return width;
}

char *text_cut(const char *text, int width)
{
        const char *end = text;

        if (text_width(text) <= (size_t)MAX(width, 0))
                return mem_copy_text(text);
        for (int i = 1; i < width; i++)
                do
                        end++;
                while (((unsigned char)*end & 0xc0) == 0x80);
        return mem_printf("%.*s%s", (int)(end - text), text, width > 0 ? ELLIPSIS : "");
}

char *text_detail(const char *detail)
{
        auto_free char *safe = text_safe(detail);
        bool full = detail != NULL && strlen(detail) == sizeof(((struct err *)NULL)->message) - 1;

        return mem_printf("%s%s", safe, full ? ELLIPSIS : "");
}

char *text_refusal(const char *field, const char *detail)
{
        auto_free char *safe = text_safe(field), *said = text_detail(detail);
        bool named = *safe == '\0' || strcasestr(said, safe) != NULL;

        return mem_printf("%s%s%s", named ? "" : safe, named ? "" : ": ", said);
}

char *text_time(const char *time)
{
        char *safe = text_safe(time ? time : "-");

        if (strlen(safe) > 19 && safe[10] == 'T') {
                safe[10] = ' ';
                safe[19] = '\0';
        }
        return safe;
}

void print_json(const json_t *value)
{
        size_t flags = terminal_is(stdout) ? JSON_INDENT(2) | JSON_ENSURE_ASCII : JSON_COMPACT;

        json_dumpf(value, stdout, flags | JSON_ENCODE_ANY);
        putchar('\n');
}

void print_json_line(const json_t *value)
{
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

struct table {
        const char *headings[COLUMN_LIMIT];
        size_t columns, rows, room;
        char **cells;
};

struct table *table_new(const char *heading, ...)
{
        struct table *table = NEW(struct table);
        va_list args;

        va_start(args, heading);
        for (; heading != NULL; heading = va_arg(args, const char *)) {
                assert(table->columns < COLUMN_LIMIT);
                table->headings[table->columns++] = heading;
        }
        va_end(args);
        return table;
}

void table_add(struct table *table, ...)
{
        va_list args;

        if (table->rows == table->room) {
                table->room = MAX(16, table->room * 2);
                table->cells = mem_resize(table->cells, table->room * table->columns * sizeof(table->cells[0]));
        }
        va_start(args, table);
        for (size_t i = 0; i < table->columns; i++) {
                const char *cell = va_arg(args, const char *);

                table->cells[table->rows * table->columns + i] = text_safe(cell && *cell ? cell : "-");
        }
        va_end(args);
        table->rows++;
}

size_t table_rows(const struct table *table)
{
        return table->rows;
}

/* The last column is not padded: nothing follows it. */
static void print_cell(const char *text, size_t width, bool last)
{
        const char *colour = colour_of(text);
        size_t taken = text_width(text);

        printf("%s%s%s", colour, text, *colour ? colour_end() : "");
        if (last)
                putchar('\n');
        else
                printf("%*s", (int)(width - MIN(taken, width) + 2), "");
}

void table_print(struct table *table)
{
        size_t widths[COLUMN_LIMIT];

        for (size_t c = 0; c < table->columns; c++) {
                widths[c] = strlen(table->headings[c]);
                for (size_t r = 0; r < table->rows; r++)
                        widths[c] = MAX(widths[c], text_width(table->cells[r * table->columns + c]));
        }
        for (size_t c = 0; c < table->columns; c++)
                print_cell(table->headings[c], widths[c], c + 1 == table->columns);
        for (size_t i = 0; i < table->rows * table->columns; i++) {
                print_cell(table->cells[i], widths[i % table->columns], (i + 1) % table->columns == 0);
                free(table->cells[i]);
        }
        free(table->cells);
        free(table);
}

void progress_bar(char *out, size_t size, int percent)
{
        static const char full[] = "####################", empty[] = "--------------------";
        int filled;

        percent = MAX(0, MIN(100, percent));
        filled = percent * BAR_WIDTH / 100;
        snprintf(out, size, "[%.*s%.*s] %3d %%", filled, full, BAR_WIDTH - filled, empty, percent);
}

const char *colour_of(const char *word)
{
        static const struct {
                const char *word, *colour;
        } colours[] = {
                { "ready", "\033[32m" },       { "good", "\033[32m" },         { "ours", "\033[32m" },
                { "bad", "\033[31m" },         { "attention", "\033[31m" },    { "orphan", "\033[31m" },
                { "ghost", "\033[31m" },       { "drift", "\033[31m" },        { "requested", "\033[33m" },
                { "archived", "\033[2m" },     { "provisioning", "\033[33m" }, { "skipped", "\033[2m" },
                { "quarantined", "\033[33m" },
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
