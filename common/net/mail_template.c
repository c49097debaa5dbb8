/* The words of a mail: see mail_template.h. */
#include "common/net/mail_template.h"

#include "common/base/buf.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/base/utf8.h"

#include <string.h>
#include <unistd.h>

#define FILE_LIMIT (64 * 1024)
#define DEEP       8 /* sections inside each other */
#define SUBJECT    "Subject: "

struct mail_template {
        const struct mail_kind *kind;
        char *subject, *text, *html;
};

/* What stands between the braces. */
struct tag {
        char sort;        /* '#', '/', or '\0': a value */
        const char *name; /* not terminated */
        size_t length;
        const char *after; /* the braces */
};

static int template_line(const char *text, const char *at)
{
        int line = 1;

        for (; text < at; text++)
                line += *text == '\n';
        return line;
}

/* The tag that begins at "{{"; false if it does not end, or has no plain name. */
static bool template_read_tag(const char *at, struct tag *ret)
{
        at += 2;
        ret->sort = *at == '#' || *at == '/' ? *at++ : '\0';
        ret->name = at;
        ret->length = strspn(at, "abcdefghijklmnopqrstuvwxyz_");
        ret->after = at + ret->length + 2;
        return ret->length > 0 && strncmp(at + ret->length, "}}", 2) == 0;
}

static bool template_is_named(const struct tag *tag, const char *name)
{
        return strlen(name) == tag->length && strncmp(tag->name, name, tag->length) == 0;
}

static int template_complain(const char *path, const char *text, const char *at, const char *what, struct err *err)
{
        return err_field(err, path, "%s line %d: %s", path, template_line(text, at), what);
}

static bool template_has_field(const struct mail_kind *kind, const struct tag *tag)
{
        for (const char *const *field = kind->fields; *field != NULL; field++)
                if (template_is_named(tag, *field))
                        return true;
        return false;
}

static int template_unknown(const struct mail_kind *kind, const char *path, const char *text, const struct tag *tag,
                            struct err *err)
{
        auto_buf what = { 0 };

        buf_printf(&what, "there is no %.*s in this mail; there are", (int)tag->length, tag->name);
        for (const char *const *field = kind->fields; *field != NULL; field++)
                buf_printf(&what, "%s %s", field == kind->fields ? "" : ",", *field);
        return template_complain(path, text, tag->name, what.data, err);
}

/* That all tags are right, and each section ends where it should. */
static int template_check(const struct mail_kind *kind, const char *path, const char *text, struct err *err)
{
        struct tag open[DEEP], tag;
        size_t depth = 0;

        for (const char *at = strstr(text, "{{"); at != NULL; at = strstr(tag.after, "{{")) {
                if (!template_read_tag(at, &tag))
                        return template_complain(path, text, at, "this is not {{field}}, {{#field}} or {{/field}}",
                                                 err);
                if (!template_has_field(kind, &tag))
                        return template_unknown(kind, path, text, &tag, err);
                if (tag.sort == '#' && depth == DEEP)
                        return template_complain(path, text, at, "too many sections inside each other", err);
                if (tag.sort == '#')
                        open[depth++] = tag;
                if (tag.sort == '/' && (depth == 0 || tag.length != open[depth - 1].length ||
                                        strncmp(tag.name, open[depth - 1].name, tag.length) != 0))
                        return template_complain(path, text, at, "this ends a section that was not begun last", err);
                depth -= tag.sort == '/';
        }
        if (depth > 0)
                return template_complain(path, text, open[depth - 1].name, "this section never ends", err);
        return 0;
}

/* Cuts "Subject: ..." and an empty line off the text. */
static int template_cut_subject(struct mail_template *template, const char *path, const char *whole, struct err *err)
{
        const char *end = strchr(whole, '\n');

        if (strncmp(whole, SUBJECT, strlen(SUBJECT)) != 0 || end == NULL || end[1] != '\n')
                return err_field(err, path, "%s does not begin with \"Subject: ...\" and an empty line", path);
        whole += strlen(SUBJECT);
        template->subject = mem_printf("%.*s", (int)(end - whole), whole);
        template->text = mem_copy_text(end + 2);
        for (const char *p = template->subject; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        return err_field(err, path, "%s line 1: a subject has no control characters", path);
        return template_check(template->kind, path, template->subject, err);
}

/* Lines end as here, whoever wrote them. */
static void template_unify_lines(struct buf *text)
{
        size_t kept = 0;

        for (size_t i = 0; i < text->length; i++)
                if (text->data[i] != '\r' || text->data[i + 1] != '\n')
                        text->data[kept++] = text->data[i];
        text->data[kept] = '\0';
        text->length = kept;
}

static int template_read_file(const char *path, struct buf *text, struct err *err)
{
        struct err why;

        if (file_read(path, FILE_LIMIT, text, &why) < 0)
                return err_field(err, path, "%s", why.message);
        if (text->length > FILE_LIMIT || strlen(text->data) < text->length ||
            utf8_valid_length(text->data, text->length) < text->length)
                return err_field(err, path, "%s has more than %d bytes, a NUL byte, or bytes that are no UTF-8", path,
                                 FILE_LIMIT);
        template_unify_lines(text);
        return 0;
}

static int template_take(struct mail_template *template, const char *text_path, const char *text, const char *html_path,
                         const char *html, struct err *err)
{
        int rc = template_check(template->kind, text_path, text, err);

        if (rc == 0)
                rc = template_cut_subject(template, text_path, text, err);
        if (rc == 0)
                rc = template_check(template->kind, html_path, html, err);
        template->html = mem_copy_text(html);
        return rc;
}

static int template_load_files(struct mail_template *template, const char *text_path, const char *html_path,
                               struct err *err)
{
        auto_buf text = { 0 }, html = { 0 };

        if (template_read_file(text_path, &text, err) < 0 || template_read_file(html_path, &html, err) < 0)
                return -ERR_INPUT;
        return template_take(template, text_path, text.data, html_path, html.data, err);
}

int mail_template_load(const struct mail_kind *kind, const char *directory, struct mail_template **ret, struct err *err)
{
        auto_free char *text_path = mem_printf("%s/%s.txt", directory ? directory : "built-in", kind->name);
        auto_free char *html_path = mem_printf("%s/%s.html", directory ? directory : "built-in", kind->name);
        bool own = directory != NULL && (access(text_path, F_OK) == 0 || access(html_path, F_OK) == 0);
        struct mail_template *template = NEW(struct mail_template);
        int rc;

        template->kind = kind;
        rc = own ? template_load_files(template, text_path, html_path, err)
                 : template_take(template, text_path, kind->text, html_path, kind->html, err);
        if (rc < 0)
                mail_template_free(template);
        else
                *ret = template;
        return rc;
}

void mail_template_free(struct mail_template *template)
{
        if (template == NULL)
                return;
        free(template->subject);
        free(template->text);
        free(template->html);
        free(template);
}

static const char *template_value(const struct mail_value *values, const struct tag *tag)
{
        for (; values->field != NULL; values++)
                if (template_is_named(tag, values->field) && values->value != NULL)
                        return values->value;
        return "";
}

static void template_add_plain(struct buf *out, const char *value)
{
        buf_add_text(out, value);
}

static void template_add_html(struct buf *out, const char *value)
{
        static const struct {
                char from;
                const char *to;
        } escapes[] = {
                { '&', "&amp;" }, { '<', "&lt;" }, { '>', "&gt;" }, { '"', "&quot;" }, { '\'', "&#39;" },
        };

        for (; *value; value++) {
                size_t i = 0;

                while (i < ARRAY_SIZE(escapes) && escapes[i].from != *value)
                        i++;
                if (i < ARRAY_SIZE(escapes))
                        buf_add_text(out, escapes[i].to);
                else
                        buf_add(out, value, 1);
        }
}

/* A header ends with its line. */
static void template_add_line(struct buf *out, const char *value)
{
        for (; *value; value++)
                buf_add(out, (unsigned char)*value < 0x20 || *value == 0x7f ? " " : value, 1);
}

/* Behind the end of the section that the tag has begun. */
static const char *template_skip(const struct tag *begin)
{
        struct tag tag = *begin;

        for (size_t depth = 1; depth > 0; depth += tag.sort == '#', depth -= tag.sort == '/')
                template_read_tag(strstr(tag.after, "{{"), &tag);
        return tag.after;
}

static char *template_fill(const char *text, const struct mail_value *values,
                           void (*add)(struct buf *out, const char *value))
{
        auto_buf out = { 0 };
        const char *at;

        buf_add(&out, "", 0);
        while ((at = strstr(text, "{{")) != NULL) {
                struct tag tag;
                const char *value;

                template_read_tag(at, &tag);
                buf_add(&out, text, (size_t)(at - text));
                text = tag.after;
                value = template_value(values, &tag);
                if (tag.sort == '\0')
                        add(&out, value);
                else if (tag.sort == '#' && *value == '\0')
                        text = template_skip(&tag);
        }
        buf_add_text(&out, text);
        return buf_take(&out);
}

void mail_template_fill(const struct mail_template *template, const struct mail_value *values, struct mail_words *ret)
{
        ret->subject = template_fill(template->subject, values, template_add_line);
        ret->text = template_fill(template->text, values, template_add_plain);
        ret->html = template_fill(template->html, values, template_add_html);
}

void mail_words_release(struct mail_words *words)
{
        free(words->subject);
        free(words->text);
        free(words->html);
        *words = (struct mail_words){ 0 };
}
