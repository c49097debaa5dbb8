/* HTTP calls to other systems: see http_client.h. */
#include "common/net/http_client.h"

#include "common/base/buf.h"
#include "common/base/memory.h"

#include <string.h>

#define REPLY_LIMIT        (4 * 1024 * 1024)
#define CONNECT_TIMEOUT_MS 5000L

struct http_exchange {
        struct transfers *transfers;
        CURL *easy;
        struct curl_slist *headers;
        struct buf reply;
        http_called_fn done;
        void *context;
};

static size_t http_client_take_body(char *bytes, size_t size, size_t count, void *context)
{
        struct http_exchange *exchange = context;

        if (exchange->reply.length + size * count > REPLY_LIMIT)
                return 0;
        buf_add(&exchange->reply, bytes, size * count);
        return size * count;
}

static void http_client_free_exchange(struct http_exchange *exchange)
{
        curl_easy_cleanup(exchange->easy);
        curl_slist_free_all(exchange->headers);
        buf_free(&exchange->reply);
        free(exchange);
}

const char *http_reply_header(const struct http_reply *reply, const char *name)
{
        struct curl_header *header = NULL;

        if (curl_easy_header(reply->easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
                return NULL;
        if (header->amount > 1 &&
            curl_easy_header(reply->easy, name, header->amount - 1, CURLH_HEADER, -1, &header) != CURLHE_OK)
                return NULL;
        return header->value;
}

static void http_client_call_ended(void *context, CURLcode code)
{
        struct http_exchange *exchange = context;
        struct http_reply reply = { 0 };
        long status = 0;
        struct err err;

        if (code != CURLE_OK) {
                err_set(&err, ERR_BUSY, "transport", "no answer: %s", curl_easy_strerror(code));
                exchange->done(exchange->context, NULL, &err);
                http_client_free_exchange(exchange);
                return;
        }
        curl_easy_getinfo(exchange->easy, CURLINFO_RESPONSE_CODE, &status);
        reply.status = (int)status;
        reply.body = exchange->reply.data ? exchange->reply.data : "";
        reply.length = exchange->reply.length;
        reply.easy = exchange->easy;
        exchange->done(exchange->context, &reply, NULL);
        http_client_free_exchange(exchange);
}

struct http_exchange *http_client_call(struct transfers *transfers, const struct http_call *call, http_called_fn done,
                                       void *context)
{
        struct http_exchange *exchange = NEW(struct http_exchange);
        CURL *easy = curl_easy_init();

        assert(easy != NULL);
        exchange->transfers = transfers;
        exchange->easy = easy;
        exchange->done = done;
        exchange->context = context;
        for (const char *const *h = call->headers; h != NULL && *h != NULL; h++)
                exchange->headers = curl_slist_append(exchange->headers, *h);
        curl_easy_setopt(easy, CURLOPT_URL, call->url);
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, exchange->headers);
        if (call->body != NULL)
                curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, call->body);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)call->timeout_ms);
        curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, MIN((long)call->timeout_ms, CONNECT_TIMEOUT_MS));
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, http_client_take_body);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, exchange);
        transfers_add(transfers, easy, http_client_call_ended, exchange);
        return exchange;
}

void http_client_cancel(struct http_exchange *exchange)
{
        if (exchange == NULL)
                return;
        transfers_remove(exchange->transfers, exchange->easy);
        http_client_free_exchange(exchange);
}
