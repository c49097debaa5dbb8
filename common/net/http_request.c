/* What a handler sees of a request, and how it answers: see http_server.h. */
#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/base/memory.h"
#include "common/net/http_private.h"

#include <stdio.h>
#include <string.h>

const char *http_segment(const struct http_request *request)
{
        return request->segment;
}

const char *http_query(const struct http_request *request, const char *name)
{
        const char *value = NULL;

        if (MHD_lookup_connection_value_n(request->connection, MHD_GET_ARGUMENT_KIND, name, strlen(name), &value,
                                          NULL) != MHD_YES)
                return NULL;
        return value ? value : ""; /* "?all" is present, though it has no value */
}

struct query {
        const struct http_parameter *table;
        unsigned seen; /* a bit for each parameter of the table */
        struct err err;
};

static int request_check_parameter(struct query *query, const char *name, const char *value)
{
        const struct http_parameter *known = query->table;
        unsigned bit;

        while (known != NULL && known->name != NULL && strcmp(known->name, name) != 0)
                known++;
        if (known == NULL || known->name == NULL)
                return err_field(&query->err, name, "%.60s is not a parameter of this path", name);
        bit = 1U << (known - query->table);
        if (query->seen & bit)
                return err_field(&query->err, name, "%s is given twice", name);
        query->seen |= bit;
        return known->choices ? config_check_choice(name, value, known->choices, &query->err) : 0;
}

static enum MHD_Result request_parameter_found(void *context, enum MHD_ValueKind kind, const char *name,
                                               const char *value)
{
        (void)kind;
        return request_check_parameter(context, name, value ? value : "") < 0 ? MHD_NO : MHD_YES;
}

bool http_query_holds(struct http_request *request)
{
        struct query query = { .table = request->route->query };

        if (!request->route->any_query)
                MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, request_parameter_found, &query);
        if (query.err.class == ERR_NONE)
                return true;
        http_answer_error(request, &query.err);
        return false;
}

const char *http_header(const struct http_request *request, const char *name)
{
        return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *http_body(const struct http_request *request, size_t *ret_length)
{
        *ret_length = request->body.length;
        return request->body.data ? request->body.data : "";
}

const char *http_address(const struct http_request *request)
{
        return request->address;
}

const char *http_site(const struct http_request *request)
{
        return request->site;
}

const void *http_route_extra(const struct http_request *request)
{
        return request->route->extra;
}

void http_keep(struct http_request *request, void *state, void (*release)(void *state))
{
        if (request->release != NULL)
                request->release(request->kept);
        request->kept = state;
        request->release = release;
}

bool http_is_answered(const struct http_request *request)
{
        return request->answered;
}

void http_answer_header(struct http_request *request, const char *name, const char *value)
{
        buf_add(&request->headers, name, strlen(name) + 1);
        buf_add(&request->headers, value, strlen(value) + 1);
}

/* Headers of every answer; pages bring their own, stricter policy. A caller refused now may be accepted a minute later,
 * so only successful answers may be cached, and what is said to be unchanged (304) as the answer that it stands for. */
static void request_add_common_headers(const struct http_request *request, unsigned status,
                                       struct MHD_Response *response, const char *content_type)
{
        bool good = status < 300 || status == 304;
        const char *cache = good && request->route != NULL ? request->route->cache : NULL;

        MHD_add_response_header(response, "Content-Type", content_type);
        MHD_add_response_header(response, "Cache-Control", cache ? cache : "no-store");
        MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
}

void http_answer(struct http_request *request, unsigned status, const char *content_type, const char *body,
                 size_t length)
{
        struct MHD_Response *response =
                MHD_create_response_from_buffer(length, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);

        request_add_common_headers(request, status, response, content_type);
        http_send(request, status, response);
}

void http_answer_json(struct http_request *request, unsigned status, json_t *body)
{
        auto_free char *text = json_print(body);

        json_decref(body);
        http_answer(request, status, "application/json", text, strlen(text));
}

void http_answer_problem(struct http_request *request, unsigned status, const char *code, const char *field,
                         const char *detail)
{
        http_answer_problem_more(request, status, code, field, detail, NULL);
}

void http_answer_problem_more(struct http_request *request, unsigned status, const char *code, const char *field,
                              const char *detail, json_t *more)
{
        json_t *problem = json_pack("{s:s, s:s, s:i}", "type", "about:blank", "code", code, "status", (int)status);
        auto_free char *text = NULL;

        if (field != NULL && *field)
                json_object_set_new(problem, "field", json_string(field));
        if (detail != NULL)
                json_set_text(problem, "detail", detail);
        json_object_set_new(problem, "title", json_string(MHD_get_reason_phrase_for(status)));
        json_object_update(problem, more);
        json_decref(more);
        text = json_print(problem);
        json_decref(problem);
        http_answer(request, status, "application/problem+json", text, strlen(text));
}

void http_answer_error(struct http_request *request, const struct err *err)
{
        static const unsigned statuses[] = {
                [ERR_NONE] = 500, [ERR_INPUT] = 400,     [ERR_AUTH] = 502,     [ERR_CONFLICT] = 409, [ERR_BUSY] = 503,
                [ERR_GONE] = 404, [ERR_PERMANENT] = 500, [ERR_INTERNAL] = 500, [ERR_OURS] = 503,
        };
        unsigned status = statuses[err->class];
        char seconds[24];

        if (status == 503) {
                snprintf(seconds, sizeof(seconds), "%lld", (long long)MAX(1, (err->retry_after + 999) / 1000));
                http_answer_header(request, "Retry-After", seconds);
        }
        http_answer_problem(request, status, err->code, err->field, err->message);
}
