/* The gateway's API: see api.h. */
#include "cli/api.h"

#include "cli/curl_handle.h"
#include "cli/terminal.h"
#include "common/base/buf.h"
#include "common/base/memory.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define ANSWER_TIMEOUT_MS 45000L
#define BEGINNING_LEAST   4 /* characters of an id */
#define PROBE_TIMEOUT_MS  10000L
#define ANSWER_LIMIT      (64UL * 1024 * 1024)

static size_t api_keep_bytes(char *bytes, size_t size, size_t count, void *context)
{
        struct buf *text = context;

        if (text->length + size * count > ANSWER_LIMIT)
                return 0;
        buf_add(text, bytes, size * count);
        return size * count;
}

/* The exit code for an HTTP status. */
static int api_exit_code_of(long status)
{
        if (status >= 200 && status < 300)
                return EXIT_GOOD;
        if (status == 404)
                return EXIT_NOT_FOUND;
        if (status == 0 || status == 502 || status == 503 || status == 504)
                return EXIT_AWAY;
        return status >= 400 && status < 500 ? EXIT_REFUSED : EXIT_FAILED;
}

static void api_receive(struct curl_request *curl, long timeout_ms, struct api_answer *ret)
{
        auto_buf text = { 0 };
        CURLcode code;

        curl_easy_setopt(curl->easy, CURLOPT_TIMEOUT_MS, timeout_ms);
        curl_easy_setopt(curl->easy, CURLOPT_WRITEFUNCTION, api_keep_bytes);
        curl_easy_setopt(curl->easy, CURLOPT_WRITEDATA, &text);
        code = curl_easy_perform(curl->easy);
        if (code != CURLE_OK) {
                snprintf(ret->away, sizeof(ret->away), "%s", curl_request_reason(curl, code));
                return;
        }
        curl_easy_getinfo(curl->easy, CURLINFO_RESPONSE_CODE, &ret->status);
        if (text.length > 0 && json_parse(text.data, text.length, &ret->body, NULL) < 0)
                ret->body = NULL;
}

int api_send(const struct api_request *request, struct api_answer *ret)
{
        const char *url = cli_environment("TENANTRY_URL");
        const char *token = request->token ? request->token : cli_setting("TENANTRY_TOKEN");
        auto_free char *body = request->body ? json_print(request->body) : NULL;
        struct curl_request curl;
        int status;

        *ret = (struct api_answer){ 0 };
        if (url == NULL)
                return EXIT_USAGE;
        status = curl_request_init(&curl, url, request->path, token);
        if (status != EXIT_GOOD)
                return status;
        curl_easy_setopt(curl.easy, CURLOPT_CUSTOMREQUEST, request->method);
        if (strcmp(request->method, "POST") == 0) {
                curl_request_header(&curl, "Content-Type", "application/json");
                curl_easy_setopt(curl.easy, CURLOPT_POSTFIELDS, body ? body : "");
        }
        if (request->idempotency_key != NULL)
                curl_request_header(&curl, "Idempotency-Key", request->idempotency_key);
        api_receive(&curl, request->timeout_ms ? request->timeout_ms : ANSWER_TIMEOUT_MS, ret);
        curl_request_free(&curl);
        if (ret->status == 200 && ret->body == NULL)
                return EXIT_FAILED;
        return api_exit_code_of(ret->status);
}

void api_answer_release(struct api_answer *answer)
{
        json_decref(answer->body);
        answer->body = NULL;
}

/* What a person can do about it; follows the problem's own detail. */
static const char *api_advice(const struct api_answer *answer)
{
        switch (answer->status) {
        case 401:
                return cli_setting("TENANTRY_TOKEN") ? "; TENANTRY_TOKEN is not in the gateway's TOKENS file"
                                                     : "; set TENANTRY_TOKEN (see: tenantry keys --help)";
        case 403:
                return "; use a token with another scope (see: tenantry keys --help)";
        case 429:
        case 503:
                return "; try again in a moment (see: tenantry doctor)";
        default:
                return "";
        }
}

/* Further details for machines. The caller releases it. */
static json_t *api_error_members(const struct api_answer *answer)
{
        json_t *members = json_pack("{s:I, s:O?}", "status", (json_int_t)answer->status, "problem", answer->body);
        const char *code = json_text(answer->body, "code"), *field = json_text(answer->body, "field");

        if (code != NULL)
                json_set_text(members, "code", code);
        if (field != NULL)
                json_set_text(members, "field", field);
        if (answer->status == 0)
                json_set_text(members, "away", answer->away);
        return members;
}

int api_complain(const struct api_answer *answer, int code)
{
        auto_free char *detail = text_refusal(json_text(answer->body, "field"), json_text(answer->body, "detail"));
        auto_free char *url = text_safe(cli_setting("TENANTRY_URL"));
        auto_json *members = NULL;

        if (code == EXIT_USAGE) /* said already */
                return code;
        members = api_error_members(answer);
        if (answer->status == 0)
                return cli_fail_with(code, members,
                                     "the gateway at %s cannot be reached: %s; is it running, is TENANTRY_URL right?",
                                     url, answer->away);
        if (json_text(answer->body, "detail") == NULL)
                return cli_fail_with(code, members,
                                     "the gateway answered %ld%s; is TENANTRY_URL the gateway's address?",
                                     answer->status, answer->body ? "" : " without JSON");
        return cli_fail_with(code, members, "%s%s", detail, api_advice(answer));
}

static int api_send_and_complain(const struct api_request *request, json_t **ret)
{
        struct api_answer answer;
        int code = api_send(request, &answer);

        if (code == EXIT_GOOD) {
                *ret = answer.body ? TAKE_PTR(answer.body) : json_object();
                return EXIT_GOOD;
        }
        api_complain(&answer, code);
        api_answer_release(&answer);
        return code;
}

int api_get(const char *path, json_t **ret)
{
        return api_send_and_complain(&(struct api_request){ .method = "GET", .path = path }, ret);
}

int api_post(const char *path, const json_t *body, const char *key, json_t **ret)
{
        return api_send_and_complain(
                &(struct api_request){ .method = "POST", .path = path, .body = body, .idempotency_key = key }, ret);
}

void api_add_query(struct buf *path, const char *name, const char *value)
{
        static const char HEX[] = "0123456789ABCDEF";

        if (value == NULL)
                return;
        buf_printf(path, "%c%s=", path->length > 0 && strchr(path->data, '?') ? '&' : '?', name);
        for (const unsigned char *p = (const unsigned char *)value; *p; p++)
                if (isalnum(*p) || strchr("-._~", *p) != NULL)
                        buf_add(path, p, 1);
                else
                        buf_printf(path, "%%%c%c", HEX[*p >> 4], HEX[*p & 15]);
}

/* A kind of object that has an id, and where it is listed. */
struct kind {
        const char *path, *items, *id, *what, *list;
};

static const struct kind TENANT = {
        .path = "/api/tenants",
        .items = "tenants",
        .id = "tenant_id",
        .what = "tenant",
        .list = "tenantry tenants",
};
static const struct kind OPERATION = {
        .path = "/api/operations",
        .items = "operations",
        .id = "operation_id",
        .what = "operation",
        .list = "tenantry operation list",
};

/* Up to two objects for which the query parameter matches. */
static int api_find(const struct kind *kind, const char *parameter, const char *value, json_t **ret)
{
        auto_buf path = { 0 };

        buf_printf(&path, "%s?limit=2", kind->path);
        api_add_query(&path, parameter, value);
        return api_get(path.data, ret);
}

/* Whether this is long enough to be taken as the beginning of an id. */
static bool api_may_begin_id(const char *word)
{
        struct id first, last;

        return strlen(word) >= BEGINNING_LEAST && id_span(word, &first, &last);
}

static int api_take_id(const struct kind *kind, const json_t *answer, const char *word, struct id *ret)
{
        const json_t *rows = json_object_get(answer, kind->items);
        const char *id = json_text(json_array_get(rows, 0), kind->id);

        if (json_array_size(rows) > 1)
                return cli_fail(EXIT_USAGE,
                                "several %ss have ids that begin with %s: give more characters (%s, %s, ...)",
                                kind->what, word, id, json_text(json_array_get(rows, 1), kind->id));
        if (id == NULL || !id_is_valid(id))
                return EXIT_NOT_FOUND;
        memcpy(ret->text, id, sizeof(ret->text));
        return EXIT_GOOD;
}

/* EXIT_NOT_FOUND without a message. */
static int api_find_by_beginning(const struct kind *kind, const char *word, struct id *ret)
{
        auto_json *answer = NULL;
        int code = api_may_begin_id(word) ? api_find(kind, "id", word, &answer) : EXIT_NOT_FOUND;

        return code == EXIT_GOOD ? api_take_id(kind, answer, word, ret) : code;
}

/* A subdomain that looks like the beginning of an id is still a subdomain: subdomains take precedence. */
static int api_find_by_subdomain(const char *word, struct id *ret)
{
        auto_json *answer = NULL;
        int code = api_find(&TENANT, "subdomain", word, &answer);

        return code == EXIT_GOOD ? api_take_id(&TENANT, answer, word, ret) : code;
}

/* A complete id is used as it is. EXIT_NOT_FOUND without a message. */
static int api_find_tenant_only(char *word, struct id *ret)
{
        int code;

        if (*word == '\0') /* an empty filter would match any tenant */
                return cli_fail(EXIT_USAGE, "a tenant is identified by its id or its subdomain, not by an empty word");
        cli_lower_case(word);
        if (id_is_valid(word)) {
                memcpy(ret->text, word, sizeof(ret->text));
                return EXIT_GOOD;
        }
        code = api_find_by_subdomain(word, ret);
        return code == EXIT_NOT_FOUND ? api_find_by_beginning(&TENANT, word, ret) : code;
}

int api_find_tenant(const char *word, struct id *ret)
{
        auto_free char *small = mem_copy_text(word), *shown = text_safe(word);
        int code = api_find_tenant_only(small, ret);

        if (code == EXIT_NOT_FOUND)
                return cli_fail(code, "there is no tenant with the subdomain %s%s (see: %s)", shown,
                                api_may_begin_id(small) ? ", nor one whose id begins with that" : "", TENANT.list);
        return code;
}

int api_find_tenant_or_operation(const char *word, struct id *ret)
{
        auto_free char *small = mem_copy_text(word), *shown = text_safe(word);
        int code = api_find_tenant_only(small, ret);

        if (code == EXIT_NOT_FOUND)
                code = api_find_by_beginning(&OPERATION, small, ret);
        if (code == EXIT_NOT_FOUND)
                return cli_fail(code, "there is neither a tenant nor an operation %s (see: %s, %s)", shown, TENANT.list,
                                OPERATION.list);
        return code;
}

int api_find_operation(const char *word, struct id *ret)
{
        auto_free char *small = mem_copy_text(word), *shown = text_safe(word);
        int code;

        cli_lower_case(small);
        if (id_is_valid(small)) {
                memcpy(ret->text, small, sizeof(ret->text));
                return EXIT_GOOD;
        }
        code = api_find_by_beginning(&OPERATION, small, ret);
        if (code == EXIT_NOT_FOUND)
                return cli_fail(code, "there is no operation whose id begins with %s (4 characters at least; see: %s)",
                                shown, OPERATION.list);
        return code;
}

long api_probe(const char *url, const char *token, json_t **ret_body, char **ret_away)
{
        struct api_answer answer = { 0 };
        struct curl_request curl;

        *ret_body = NULL;
        *ret_away = NULL;
        if (curl_request_init(&curl, url, "", token) != EXIT_GOOD) {
                *ret_away = mem_copy_text("the token cannot be sent");
                return 0;
        }
        api_receive(&curl, PROBE_TIMEOUT_MS, &answer);
        curl_request_free(&curl);
        *ret_body = answer.body;
        if (answer.status == 0)
                *ret_away = mem_copy_text(answer.away);
        return answer.status;
}
