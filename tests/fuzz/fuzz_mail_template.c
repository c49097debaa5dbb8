/* The operator's words for a mail: whatever they are, they are refused with a reason, or can be filled. */
#include "tests/fuzz/fuzz.h"

#include "common/base/memory.h"
#include "common/net/mail_template.h"

static const char *const FIELDS[] = { "name", "company", NULL };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
        auto_free char *text = mem_printf("%.*s", (int)length, (const char *)bytes);
        auto_free char *with_subject = mem_printf("Subject: %s", text);
        struct mail_kind kind = { .name = "fuzz", .fields = FIELDS, .text = with_subject, .html = text };
        const struct mail_value values[] = { { "company", "<&>\r\n{{name}}" }, { NULL, NULL } };
        struct mail_template *template;
        struct mail_words words;
        struct err err;

        if (mail_template_load(&kind, NULL, &template, &err) < 0) {
                MUST(err.message[0] != '\0');
                return 0;
        }
        mail_template_fill(template, values, &words);
        MUST(strpbrk(words.subject, "\r\n") == NULL);
        mail_words_release(&words);
        mail_template_free(template);
        return 0;
}
