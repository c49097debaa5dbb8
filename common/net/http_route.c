/* Which route a request is for, and what is refused because of its header alone. See http_server.h. */
#include "common/base/memory.h"
#include "common/net/http_private.h"

#include <ctype.h>
#include <string.h>

#define PATH_LIMIT 2048

static bool route_match_path(const char *pattern, const char *path, char **ret_segment)
{
        const char *hole = strstr(pattern, "{id}");
        size_t before, length;

        if (hole == NULL)
                return strcmp(pattern, path) == 0;
        before = (size_t)(hole - pattern);
        if (strncmp(pattern, path, before) != 0)
                return false;
        length = strcspn(path + before, "/");
        if (length == 0 || strcmp(path + before + length, hole + 4) != 0)
                return false;
        free(*ret_segment);
        *ret_segment = mem_copy_bytes(path + before, length);
        return true;
}

/* Finds the route, or sets 404 or 405 as the answer. */
void http_find_route(struct http_request *request)
{
        const char *method = strcmp(request->method, "HEAD") == 0 ? "GET" : request->method;
        bool path_known = false;
        auto_buf allowed = { 0 };

        for (const struct http_route *r = request->server->routes; r->method != NULL; r++) {
                if (!route_match_path(r->path, request->path, &request->segment))
                        continue;
                path_known = true;
                buf_printf(&allowed, "%s%s", allowed.length ? ", " : "", r->method);
                if (strcmp(r->method, method) == 0) {
                        request->route = r;
                        return;
                }
        }
        request->refused = path_known ? 405 : 404;
        if (path_known)
                http_answer_header(request, "Allow", allowed.data);
}

/* RFC 9110 5.6.2: what a header's name is made of. */
static bool route_is_token(const char *name)
{
        const char *p = name;

        while (isalnum((unsigned char)*p) || (*p != '\0' && strchr("!#$%&'*+-.^_`|~", *p) != NULL))
                p++;
        return p > name && *p == '\0';
}

static enum MHD_Result route_count_framing(void *context, enum MHD_ValueKind kind, const char *name, size_t name_length,
                                           const char *value, size_t length)
{
        unsigned *count = context;

        (void)kind;
        (void)value;
        (void)length;
        *count += strcasecmp(name, "Content-Length") == 0 || strcasecmp(name, "Transfer-Encoding") == 0;
        /* Some servers accept "Content-Length :" and others do not. We never see a NUL in a value: libmicrohttpd ends
         * the value there (see docs/security.md for the proxy that must be in front of us). */
        if (!route_is_token(name) || strlen(name) != name_length)
                *count += 2;
        return MHD_YES;
}

/* If the length of a body is given twice, a proxy in front of us may see its end elsewhere: nothing after it is read as
 * a request. */
static void route_refuse_ambiguous_length(struct http_request *request)
{
        unsigned count = 0;

        MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, route_count_framing, &count);
        if (count <= 1)
                return;
        request->refused = 400;
        http_answer_header(request, "Connection", "close");
}

/* A client that keeps its connection open learns at its next request that we are stopping. */
static void route_refuse_when_stopping(struct http_request *request)
{
        if (request->server->listening)
                return;
        request->refused = 503;
        http_answer_header(request, "Retry-After", "2");
        http_answer_header(request, "Connection", "close");
}

size_t http_body_limit(const struct http_request *request)
{
        const struct http_route *route = request->route;

        return route != NULL && route->body_bytes != 0 ? route->body_bytes : request->server->limits.body_bytes;
}

static bool route_is_json(const char *type)
{
        return type != NULL && strncasecmp(type, "application/json", 16) == 0 && strchr("; \t", type[16]) != NULL;
}

static void route_refuse_by_headers(struct http_request *request)
{
        const char *length = http_header(request, "Content-Length"), *type = http_header(request, "Content-Type");
        bool has_body = (length != NULL && strcmp(length, "0") != 0) || http_header(request, "Transfer-Encoding");

        if (length != NULL && strtoull(length, NULL, 10) > http_body_limit(request))
                request->refused = 413;
        else if (has_body && !route_is_json(type) && !request->route->any_body &&
                 strcmp(request->route->method, "POST") == 0)
                request->refused = 415;
}

void http_refuse(struct http_request *request)
{
        if (strlen(request->path) > PATH_LIMIT)
                request->refused = 414;
        if (!request->refused)
                route_refuse_by_headers(request);
        route_refuse_ambiguous_length(request);
        if (!request->refused)
                route_refuse_when_stopping(request);
}

void http_answer_refused(struct http_request *request)
{
        static const struct {
                unsigned status;
                const char *code, *detail;
        } refusals[] = {
                { 400, "ambiguous_length", "the length of the body is given more than once, or a header is malformed" },
                { 404, "not_found", "there is nothing at this path" },
                { 405, "method_not_allowed", "this path does not support the method; see the Allow header" },
                { 413, "body_too_large", "the body is larger than this path allows" },
                { 414, "path_too_long", "the path is too long" },
                { 415, "not_json", "the body must be application/json" },
                { 503, "stopping", "the service is stopping; try again" },
        };

        if (request->crowded_out) {
                http_answer_header(request, "Retry-After", "2");
                http_answer_problem(request, 503, "too_many_large_bodies", NULL,
                                    "too many large bodies are on their way; try again");
                return;
        }
        for (size_t i = 0; i < ARRAY_SIZE(refusals); i++)
                if (refusals[i].status == request->refused)
                        http_answer_problem(request, request->refused, refusals[i].code, NULL, refusals[i].detail);
}
