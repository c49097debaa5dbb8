/* `tenantry dlq`: messages that were refused; to look at, and to send again to where they came from. */
#include "cli/api.h"
#include "cli/terminal.h"
#include "common/base/crypto.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define LETTERS "/api/admin/dead-letters"

static void add_letter(struct table *table, const json_t *letter)
{
        auto_free char *id = mem_printf("%lld", (long long)json_number(letter, "id", 0));
        auto_free char *place =
                mem_printf("%s[%lld]@%lld", json_text(letter, "topic"), (long long)json_number(letter, "partition", 0),
                           (long long)json_number(letter, "at_offset", 0));
        auto_free char *at = text_time(json_text(letter, "at"));

        table_add(table, id, at, json_text(letter, "service"), place, json_text(letter, "code"),
                  json_text(letter, "field"), json_text(letter, "detail"));
}

static int list_letters(int argc, char **argv)
{
        int status = cli_expect(argc, argv, 1);
        auto_json *answer = NULL;
        const json_t *items, *letter;
        struct table *table;
        size_t i;

        if (status == EXIT_GOOD)
                status = api_get(LETTERS, &answer);
        if (status != EXIT_GOOD)
                return status;
        items = json_object_get(answer, "items");
        if (cli_json) {
                print_json(answer);
        } else if (json_array_size(items) == 0) {
                puts("no dead letters");
        } else {
                table = table_new("ID", "AT (UTC)", "SERVICE", "FROM", "CODE", "FIELD", "DETAIL", NULL);
                json_array_foreach (items, i, letter)
                        add_letter(table, letter);
                table_print(table);
        }
        return EXIT_GOOD;
}

/* base64 as text for people; what is no text stands as \xNN. The caller frees; NULL for null. */
static char *decoded(const json_t *value, bool lines)
{
        const char *text = json_string_value(value);
        auto_free unsigned char *bytes = text ? mem_alloc(strlen(text) + 1, 1) : NULL;
        int length = text ? crypto_base64_decode(text, bytes) : -1;

        return length < 0 ? NULL : text_safe_bytes(bytes, (size_t)length, lines);
}

static void show_headers(const json_t *headers)
{
        const json_t *pair;
        size_t i;

        json_array_foreach (headers, i, pair) {
                auto_free char *name = decoded(json_array_get(pair, 0), false);
                auto_free char *value = decoded(json_array_get(pair, 1), false);

                printf("  %s: %s\n", name ? name : "?", value ? value : "(null)");
        }
}

static void show(const json_t *letter)
{
        auto_free char *key = decoded(json_object_get(letter, "message_key"), false);
        auto_free char *value = decoded(json_object_get(letter, "value"), true);
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
        show_headers(json_object_get(letter, "headers"));
        printf("value\n%s\n", value ? value : "(null)");
}

/* A path with an id in it; complains where that is no number. */
static char *letter_path(const char *id, const char *rest)
{
        if (*id != '\0' && strlen(id) < 19 && strspn(id, "0123456789") == strlen(id))
                return mem_printf(LETTERS "/%s%s", id, rest);
        cli_usage("dlq", "a dead letter's id is a number");
        return NULL;
}

static int show_letter(int argc, char **argv)
{
        auto_free char *path = NULL;
        auto_json *letter = NULL;
        int status = cli_expect(argc, argv, 2);

        if (status != EXIT_GOOD)
                return status;
        path = letter_path(argv[2], "");
        if (path == NULL)
                return EXIT_USAGE;
        status = api_get(path, &letter);
        if (status == EXIT_GOOD && cli_json)
                print_json(letter);
        else if (status == EXIT_GOOD)
                show(letter);
        return status;
}

/* All of them, also after one that failed; the first failure is the exit code. */
static int replay_letters(int argc, char **argv)
{
        auto_json *results = json_array(), *whole = NULL;
        int worst = argc < 3 ? cli_usage("dlq", "which dead letter? say `dlq replay ID [ID...]`") : EXIT_GOOD;

        for (int i = 2; i < argc; i++) {
                auto_free char *path = letter_path(argv[i], "/replay");
                auto_json *answer = NULL;
                int status = path ? api_post(path, NULL, NULL, &answer) : EXIT_USAGE;

                json_array_append_new(results, json_pack("{s:s, s:b}", "id", argv[i], "sent", status == EXIT_GOOD));
                if (status == EXIT_GOOD && !cli_json)
                        printf("%s sent again\n", argv[i]);
                if (worst == EXIT_GOOD)
                        worst = status;
        }
        whole = json_pack("{s:O}", "replayed", results);
        if (cli_json && argc >= 3)
                cli_print_answer(whole);
        return worst;
}

int run_dlq(int argc, char **argv)
{
        if (argc >= 2 && strcmp(argv[1], "list") == 0)
                return list_letters(argc, argv);
        if (argc >= 2 && strcmp(argv[1], "show") == 0)
                return show_letter(argc, argv);
        if (argc >= 2 && strcmp(argv[1], "replay") == 0)
                return replay_letters(argc, argv);
        return cli_usage("dlq", "say `dlq list`, `dlq show ID` or `dlq replay ID`");
}
