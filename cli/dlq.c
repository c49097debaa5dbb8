/* `tenantry dlq`: shows refused messages, sends them again to their original topic, and discards them. */
#include "cli/api.h"
#include "cli/listing.h"
#include "cli/numbered.h"
#include "cli/pages.h"
#include "cli/terminal.h"
#include "common/base/buf.h"
#include "common/base/crypto.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define LETTERS "/api/admin/dead-letters"

static char *dlq_place_cell(const json_t *letter)
{
        return mem_printf("%s[%lld]@%lld", json_text(letter, "topic"), (long long)json_number(letter, "partition", 0),
                          (long long)json_number(letter, "at_offset", 0));
}

static char *dlq_at_cell(const json_t *letter)
{
        return listing_time(letter, "at");
}

static const struct column COLUMNS[] = {
        { .heading = "ID", .member = "id" },           { .heading = "AT (UTC)", .member = "at", .cell = dlq_at_cell },
        { .heading = "SERVICE", .member = "service" }, { .heading = "CODE", .member = "code" },
        { .heading = "FIELD", .member = "field" },     { .heading = "DETAIL", .member = "detail" },
        { .heading = "FROM", .cell = dlq_place_cell }, { .heading = NULL },
};

static const struct listing DEAD_LETTERS = {
        .items = "items", .none = "no dead letters", .names = { "id" }, .id = "id", .columns = COLUMNS
};

static int dlq_list(int argc, char **argv)
{
        struct listing_wish wish;

        if (listing_options(&argc, argv, &wish) != EXIT_GOOD || cli_expect(argc, argv, 1) != EXIT_GOOD)
                return EXIT_USAGE;
        return listing_run(&DEAD_LETTERS, &wish, false, pages_fetch,
                           &(struct pages){ .path = LETTERS, .items = DEAD_LETTERS.items, .limit = wish.limit });
}

/* Decodes base64 as text for people; other bytes become \xNN. The caller frees; NULL for null. */
static char *dlq_decoded(const json_t *value, bool lines)
{
        const char *text = json_string_value(value);
        auto_free unsigned char *bytes = text ? mem_alloc(strlen(text) + 1, 1) : NULL;
        int length = text ? crypto_base64_decode(text, bytes) : -1;

        return length < 0 ? NULL : text_safe_bytes(bytes, (size_t)length, lines);
}

static void dlq_show_headers(const json_t *headers)
{
        const json_t *pair;
        size_t i;

        json_array_foreach (headers, i, pair) {
                auto_free char *name = dlq_decoded(json_array_get(pair, 0), false);
                auto_free char *value = dlq_decoded(json_array_get(pair, 1), false);

                printf("  %s: %s\n", name ? name : "?", value ? value : "(null)");
        }
}

static void dlq_show_letter(const json_t *letter)
{
        auto_free char *key = dlq_decoded(json_object_get(letter, "message_key"), false);
        auto_free char *value = dlq_decoded(json_object_get(letter, "value"), true);
        auto_free char *at = text_time(json_text(letter, "at"));
        auto_free char *place = mem_printf("%s, partition %lld, offset %lld", json_text(letter, "topic"),
                                           (long long)json_number(letter, "partition", 0),
                                           (long long)json_number(letter, "at_offset", 0));

        print_pair("service", json_text(letter, "service"));
        print_pair("from", place);
        print_pair("at", at);
        print_pair("code", json_text(letter, "code"));
        print_pair("field", json_text(letter, "field"));
        print_pair("detail", json_text(letter, "detail"));
        printf("%-13s %s\n", "key", key ? key : "(null)");
        puts("headers");
        dlq_show_headers(json_object_get(letter, "headers"));
        printf("value\n%s\n", value ? value : "(null)");
}

static const struct numbered_action SHOW = { .command = "dlq", .what = "dead letter", .path = LETTERS, .end = "" };

static const struct numbered_action REPLAY = { .command = "dlq",
                                               .verb = "replay",
                                               .what = "dead letter",
                                               .path = LETTERS,
                                               .end = "/replay",
                                               .method = "POST",
                                               .list = "replayed",
                                               .flag = "sent",
                                               .done = "sent again" };

static const struct numbered_action DROP = { .command = "dlq",
                                             .verb = "drop",
                                             .what = "dead letter",
                                             .path = LETTERS,
                                             .end = "",
                                             .method = "DELETE",
                                             .list = "dropped",
                                             .flag = "dropped",
                                             .done = "dropped" };

static int dlq_show(int argc, char **argv)
{
        auto_free char *path = NULL;
        auto_json *letter = NULL;
        int status = cli_expect(argc, argv, 2);

        if (status != EXIT_GOOD)
                return status;
        path = numbered_path(&SHOW, argv[2]);
        if (path == NULL)
                return EXIT_USAGE;
        status = api_get(path, &letter);
        if (status == EXIT_GOOD && !listing_show_one(&DEAD_LETTERS, letter))
                dlq_show_letter(letter);
        return status;
}

/* A wrong number is easily typed, and dropping is final: the code confirms that the right one is meant. */
static int dlq_drop(int argc, char **argv)
{
        const char *confirm = cli_option(&argc, argv, "confirm");
        struct numbered_action drop = DROP;
        auto_buf end = { 0 };

        if (confirm == NULL)
                return cli_usage("dlq",
                                 "dropping is protected: repeat the code that `dlq list` shows with --confirm CODE");
        api_add_query(&end, "confirm", confirm);
        drop.end = end.data;
        return numbered_act(&drop, argc, argv);
}

int run_dlq(int argc, char **argv)
{
        if (argc >= 2 && strcmp(argv[1], "list") == 0)
                return dlq_list(argc, argv);
        if (argc >= 2 && strcmp(argv[1], "show") == 0)
                return dlq_show(argc, argv);
        if (argc >= 2 && strcmp(argv[1], "replay") == 0)
                return numbered_act(&REPLAY, argc, argv);
        if (argc >= 2 && strcmp(argv[1], "drop") == 0)
                return dlq_drop(argc, argv);
        return cli_usage("dlq", "use `dlq list`, `dlq show ID`, `dlq replay ID` or `dlq drop ID --confirm CODE`");
}
