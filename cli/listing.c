/* Shows lists and single objects for all commands: see listing.h. */
#include "cli/listing.h"

#include "cli/terminal.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define COLUMN_LIMIT 16
#define LEAST_WIDTH  8 /* least width of a shortened column; below it, the column is dropped */
#define GAP          2

struct table {
        const struct column *columns[COLUMN_LIMIT];
        size_t widths[COLUMN_LIMIT], count, rows;
        char **cells;
};

/* The column widths of a table shown earlier. */
static size_t shown_widths[COLUMN_LIMIT];

const json_t *listing_member(const json_t *row, const char *path)
{
        auto_free char *copy = mem_copy_text(path);
        char *rest = copy, *name;

        while ((name = strsep(&rest, ".")) != NULL)
                row = json_object_get(row, name);
        return row;
}

static char *listing_text_of(const json_t *value)
{
        if (json_is_string(value))
                return text_safe(json_string_value(value));
        return value == NULL || json_is_null(value) ? NULL : json_print(value);
}

static char *listing_cell_of(const struct column *column, const json_t *row)
{
        auto_free char *made = column->cell ? column->cell(row) : NULL;
        char *text = column->cell ? text_safe(made) : listing_text_of(listing_member(row, column->member));

        if (text != NULL && *text != '\0')
                return text;
        free(text);
        return mem_copy_text("-");
}

char *listing_time(const json_t *row, const char *member)
{
        return text_time(json_text(row, member));
}

static struct table *listing_make_table(const struct listing *listing, const json_t *rows)
{
        struct table *table = NEW(struct table);

        for (const struct column *column = listing->columns; column->heading != NULL; column++)
                if (!column->wide || cli_output == OUTPUT_WIDE) {
                        assert(table->count < COLUMN_LIMIT);
                        table->widths[table->count] = text_width(column->heading);
                        table->columns[table->count++] = column;
                }
        table->rows = json_array_size(rows);
        table->cells = mem_alloc(table->rows * table->count + 1, sizeof(table->cells[0]));
        for (size_t i = 0; i < table->rows * table->count; i++) {
                size_t c = i % table->count;

                table->cells[i] = listing_cell_of(table->columns[c], json_array_get(rows, i / table->count));
                table->widths[c] = MAX(table->widths[c], text_width(table->cells[i]));
        }
        return table;
}

static void listing_free_table(struct table *table)
{
        for (size_t i = 0; i < table->rows * table->count; i++)
                free(table->cells[i]);
        free(table->cells);
        free(table);
}

static size_t listing_whole_width(const size_t *widths, size_t count)
{
        size_t width = (count - 1) * GAP;

        for (size_t c = 0; c < count; c++)
                width += widths[c];
        return width;
}

/* Shortens the widest column after the first, then drops the last one, and finally shortens the first. Returns how many
 * columns are left. */
static size_t listing_fit(size_t *widths, size_t count, size_t room)
{
        while (listing_whole_width(widths, count) > room) {
                size_t widest = 1;

                for (size_t c = 2; c < count; c++)
                        if (widths[c] > widths[widest])
                                widest = c;
                if (count > 1 && widths[widest] > LEAST_WIDTH)
                        widths[widest]--;
                else if (count > 2)
                        count--;
                else if (widths[0] > LEAST_WIDTH)
                        widths[0]--;
                else
                        break;
        }
        return count;
}

/* The last column is not padded: nothing follows it. */
static void listing_print_cell(const char *text, size_t width, bool last)
{
        auto_free char *shown = text_cut(text, (int)width);
        const char *colour = colour_of(text);

        printf("%s%s%s", colour, shown, *colour ? colour_end() : "");
        if (last)
                putchar('\n');
        else
                printf("%*s", (int)(width - MIN(text_width(shown), width)) + GAP, "");
}

static void listing_print_table(const struct listing *listing, const json_t *rows, bool more)
{
        struct table *table = listing_make_table(listing, rows);
        size_t shown = table->count;

        for (size_t c = 0; c < shown; c++) {
                table->widths[c] = MAX(table->widths[c], more ? shown_widths[c] : 0);
                shown_widths[c] = table->widths[c];
        }
        if (terminal_is(stdout) && cli_output != OUTPUT_WIDE)
                shown = listing_fit(table->widths, table->count, (size_t)terminal_width());
        for (size_t c = 0; c < shown && !more; c++)
                listing_print_cell(table->columns[c]->heading, table->widths[c], c + 1 == shown);
        for (size_t r = 0; r < table->rows; r++)
                for (size_t c = 0; c < shown; c++)
                        listing_print_cell(table->cells[r * table->count + c], table->widths[c], c + 1 == shown);
        listing_free_table(table);
}

static void listing_print_name(const struct listing *listing, const json_t *row)
{
        for (size_t i = 0; i < ARRAY_SIZE(listing->names) && listing->names[i] != NULL; i++) {
                auto_free char *name = listing_text_of(json_object_get(row, listing->names[i]));

                if (name != NULL) {
                        puts(name);
                        return;
                }
        }
}

static void listing_show_rows(const struct listing *listing, const json_t *rows, bool more)
{
        const json_t *row;
        size_t i;

        if (cli_output == OUTPUT_NAME)
                json_array_foreach (rows, i, row)
                        listing_print_name(listing, row);
        else
                listing_print_table(listing, rows, more);
}

void listing_show_table(const struct listing *listing, const json_t *answer)
{
        const json_t *rows = json_object_get(answer, listing->items);

        if (json_array_size(rows) == 0)
                fprintf(stderr, "%s\n", listing->none);
        else
                listing_show_rows(listing, rows, false);
}

void listing_show(const struct listing *listing, const json_t *answer)
{
        if (cli_json)
                print_json(answer);
        else if (cli_output == OUTPUT_NAME || listing->told == NULL || !listing->told(answer))
                listing_show_table(listing, answer);
}

void listing_show_more(const struct listing *listing, const json_t *answer)
{
        listing_show_rows(listing, json_object_get(answer, listing->items), true);
}

bool listing_show_one(const struct listing *listing, const json_t *thing)
{
        auto_json *rows = json_pack("[O]", thing);

        if (cli_output == OUTPUT_TEXT)
                return false;
        if (cli_json)
                print_json(thing);
        else
                listing_show_rows(listing, rows, false);
        return true;
}
