/* `tenantry mail`: the mails that tenants' people get, to look at. */
#include "cli/cli.h"
#include "common/base/err.h"
#include "common/base/memory.h"
#include "common/contracts/mails.h"

#include <stdio.h>
#include <string.h>

static int mail_list(void)
{
        auto_json *names = json_array();
        auto_json *answer = json_pack("{s:O}", "kinds", names);

        for (const struct mail_kind *const *kind = MAILS; *kind != NULL; kind++) {
                json_array_append_new(names, json_string((*kind)->name));
                if (!cli_json)
                        printf("%s\n", (*kind)->name);
        }
        if (cli_json)
                cli_print_answer(answer);
        return EXIT_GOOD;
}

static void mail_print(const struct mail_words *words, bool html)
{
        auto_json *answer = NULL;

        if (cli_json) {
                answer = json_pack("{s:s, s:s, s:s}", "subject", words->subject, "text", words->text, "html",
                                   words->html);
                cli_print_answer(answer);
        } else if (html) {
                fputs(words->html, stdout);
        } else {
                printf("Subject: %s\n\n%s", words->subject, words->text);
        }
}

static int mail_preview(const char *name, const char *directory, bool html)
{
        const struct mail_kind *kind = mail_kind_find(name);
        struct mail_template *template = NULL;
        struct mail_words words;
        struct err err;

        if (kind == NULL)
                return cli_fail(EXIT_NOT_FOUND, "there is no mail \"%s\": tenantry mail preview lists all", name);
        if (mail_template_load(kind, directory, &template, &err) < 0)
                return cli_fail(EXIT_FAILED, "%s", err.message);
        mail_template_fill(template, MAIL_EXAMPLE, &words);
        mail_print(&words, html);
        mail_words_release(&words);
        mail_template_free(template);
        return EXIT_GOOD;
}

int run_mail(int argc, char **argv)
{
        const char *directory = cli_option(&argc, argv, "templates");
        bool html = cli_flag(&argc, argv, "html");

        if (argc < 2 || strcmp(argv[1], "preview") != 0)
                return cli_usage("mail", "the only argument is preview");
        if (argc < 3)
                return mail_list();
        if (cli_expect(argc, argv, 2) != EXIT_GOOD)
                return EXIT_USAGE;
        return mail_preview(argv[2], directory ?: cli_setting("MAIL_TEMPLATES"), html);
}
