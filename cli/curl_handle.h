/* A libcurl handle for one request to the gateway; shared by single calls and the event stream. */
#pragma once

#include "cli/cli.h"

#include <curl/curl.h>

struct curl_request {
        CURL *easy;
        struct curl_slist *headers;
        char error[CURL_ERROR_SIZE];
};

/* base + path, with the bearer token (NULL: none). Complains and returns EXIT_USAGE if the token has invalid
 * characters. Freed with curl_request_free. */
int curl_request_init(struct curl_request *request, const char *base, const char *path, const char *token);
void curl_request_header(struct curl_request *request, const char *name, const char *value);
void curl_request_free(struct curl_request *request);
/* Why code happened, in words; borrowed. */
const char *curl_request_reason(const struct curl_request *request, CURLcode code);
