/* `--health`: see health.h. */
#include "common/service/health.h"

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/service/options.h"

#include <curl/curl.h>
#include <string.h>

#define PATIENCE_MS  4000L /* below the five seconds that probes usually allow */
#define ANSWER_LIMIT 4096

static size_t health_take_bytes(char *bytes, size_t size, size_t count, void *context)
{
        struct buf *answer = context;

        if (answer->length + size * count > ANSWER_LIMIT)
                return 0;
        buf_add(answer, bytes, size * count);
        return size * count;
}

/* If the service listens on every address, the loopback address will do. */
static char *health_ready_url(const struct service_config *config)
{
        const char *address = config->ops_address;

        if (strcmp(address, "0.0.0.0") == 0)
                address = "127.0.0.1";
        else if (strcmp(address, "::") == 0)
                address = "::1";
        return mem_printf(strchr(address, ':') ? "http://[%s]:%d/readyz" : "http://%s:%d/readyz", address,
                          (int)config->ops_port);
}

static void health_print_answer(const struct buf *answer)
{
        auto_json *problem = NULL;
        const char *code = NULL;

        if (answer->length > 0 && json_parse(answer->data, answer->length, &problem, NULL) == 0)
                code = json_text(problem, "code");
        if (code != NULL && json_text(problem, "detail") != NULL)
                printf("not ready: %s: %s\n", code, json_text(problem, "detail"));
        else
                puts("not ready: no answer that can be read");
}

static int health_ask_url(const char *url)
{
        CURL *easy = curl_easy_init();
        auto_buf answer = { 0 };
        long status = 0;
        CURLcode code;

        assert(easy != NULL);
        curl_easy_setopt(easy, CURLOPT_URL, url);
        curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* no proxy, whatever the environment says: it is this machine */
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, PATIENCE_MS);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, health_take_bytes);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, &answer);
        code = curl_easy_perform(easy);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_cleanup(easy);
        if (code == CURLE_OK && status == 200) {
                puts("ready");
                return 0;
        }
        if (code != CURLE_OK)
                printf("not ready: %s does not answer: %s\n", url, curl_easy_strerror(code));
        else
                health_print_answer(&answer);
        return 1;
}

int health_ask(struct service_config *config)
{
        auto_free char *url = NULL;
        struct err err;

        if (config_load(config, &SERVICE_OPTIONS, 1, &err) < 0) {
                fprintf(stderr, "%s\n", err.message);
                return 2;
        }
        url = health_ready_url(config);
        return health_ask_url(url);
}
