/* A libcurl handle made for one request to the gateway; what one call and the event stream share. */
#pragma once

#include "cli/cli.h"

#include <curl/curl.h>

struct curl_request {
        CURL *easy;
        struct curl_slist *headers;
        char error[CURL_ERROR_SIZE];
};

/* base + path, with the bearer token (NULL: none). Complains and returns EXIT_USAGE where the token has characters that
 * no token has. Freed with curl_request_free. */
int curl_request_init(struct curl_request *request, const char *base, const char *path, const char *token);
void curl_request_header(struct curl_request *request, const char *name, const char *value);
void curl_request_free(struct curl_request *request);
/* Why code happened, in words; borrowed. */
const char *curl_request_reason(const struct curl_request *request, CURLcode code);
