/* libcurl handles for the gateway: see curl_handle.h. */
#include "cli/curl_handle.h"

#include "common/base/memory.h"

#include <string.h>

#define CONNECT_TIMEOUT_MS 5000L

/* The header is sent verbatim: a line break in it would start another header. */
static bool curl_handle_token_is_plain(const char *token)
{
        for (const char *p = token; *p; p++)
                if (*p <= 0x20 || *p >= 0x7f)
                        return false;
        return *token != '\0';
}

static void curl_handle_add_token(struct curl_request *request, const char *token)
{
        auto_secret char *value = mem_printf("Bearer %s", token);

        curl_request_header(request, "Authorization", value);
}

int curl_request_init(struct curl_request *request, const char *base, const char *path, const char *token)
{
        size_t length = strlen(base);
        auto_free char *url = NULL;

        *request = (struct curl_request){ 0 };
        if (token != NULL && !curl_handle_token_is_plain(token))
                return cli_fail(EXIT_USAGE, "the token has invalid characters: set TENANTRY_TOKEN again");
        while (length > 0 && base[length - 1] == '/')
                length--;
        url = mem_printf("%.*s%s", (int)length, base, path);
        request->easy = curl_easy_init();
        assert(request->easy != NULL);
        curl_easy_setopt(request->easy, CURLOPT_URL, url);
        curl_easy_setopt(request->easy, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(request->easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(request->easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
        curl_easy_setopt(request->easy, CURLOPT_ERRORBUFFER, request->error);
        curl_easy_setopt(request->easy, CURLOPT_USERAGENT, "tenantry/" TENANTRY_VERSION);
        if (token != NULL)
                curl_handle_add_token(request, token);
        return EXIT_GOOD;
}

void curl_request_header(struct curl_request *request, const char *name, const char *value)
{
        auto_secret char *line = mem_printf("%s: %s", name, value);

        request->headers = curl_slist_append(request->headers, line);
        curl_easy_setopt(request->easy, CURLOPT_HTTPHEADER, request->headers);
}

void curl_request_free(struct curl_request *request)
{
        if (request->easy != NULL)
                curl_easy_cleanup(request->easy);
        for (struct curl_slist *each = request->headers; each != NULL; each = each->next)
                explicit_bzero(each->data, strlen(each->data));
        curl_slist_free_all(request->headers);
        *request = (struct curl_request){ 0 };
}

const char *curl_request_reason(const struct curl_request *request, CURLcode code)
{
        return request->error[0] ? request->error : curl_easy_strerror(code);
}
