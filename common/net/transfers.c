/* libcurl's transfers on our loop: see transfers.h. */
#include "common/net/transfers.h"

#include "common/base/memory.h"

#include <utlist.h>

struct transfers {
        uv_loop_t *loop;
        uv_timer_t timer;
        CURLM *multi;
        struct transfer *all; /* in flight */
};

struct transfer {
        struct transfer *prev, *next;
        CURL *easy;
        transfer_done_fn done;
        void *context;
};

struct watch {
        uv_poll_t poll;
        struct transfers *transfers;
        curl_socket_t socket;
};

static void transfers_end(struct transfers *transfers, struct transfer *transfer, CURLcode code)
{
        transfer_done_fn done = transfer->done;
        void *context = transfer->context;

        curl_multi_remove_handle(transfers->multi, transfer->easy);
        DL_DELETE(transfers->all, transfer);
        free(transfer);
        done(context, code);
}

static void transfers_report_finished(struct transfers *transfers)
{
        CURLMsg *message;
        int left;

        while ((message = curl_multi_info_read(transfers->multi, &left)) != NULL) {
                struct transfer *transfer;

                if (message->msg != CURLMSG_DONE)
                        continue;
                curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
                transfers_end(transfers, transfer, message->data.result);
        }
}

static void transfers_on_socket(uv_poll_t *poll, int status, int events)
{
        struct watch *watch = CONTAINER_OF(poll, struct watch, poll);
        struct transfers *transfers = watch->transfers;
        int flags = 0, running;

        if (status < 0)
                flags = CURL_CSELECT_ERR;
        if (events & UV_READABLE)
                flags |= CURL_CSELECT_IN;
        if (events & UV_WRITABLE)
                flags |= CURL_CSELECT_OUT;
        curl_multi_socket_action(transfers->multi, watch->socket, flags, &running);
        transfers_report_finished(transfers);
}

static void transfers_on_timer(uv_timer_t *timer)
{
        struct transfers *transfers = timer->data;
        int running;

        curl_multi_socket_action(transfers->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        transfers_report_finished(transfers);
}

static int transfers_timer_wanted(CURLM *multi, long timeout_ms, void *context)
{
        struct transfers *transfers = context;

        (void)multi;
        if (timeout_ms < 0)
                uv_timer_stop(&transfers->timer);
        else
                uv_timer_start(&transfers->timer, transfers_on_timer, (uint64_t)MAX(timeout_ms, 1), 0);
        return 0;
}

static void transfers_free_watch(uv_handle_t *handle)
{
        free(CONTAINER_OF(handle, struct watch, poll));
}

static int transfers_socket_wanted(CURL *easy, curl_socket_t socket, int what, void *context, void *socket_context)
{
        struct transfers *transfers = context;
        struct watch *watch = socket_context;

        (void)easy;
        if (what == CURL_POLL_REMOVE) {
                if (watch != NULL) {
                        uv_poll_stop(&watch->poll);
                        uv_close((uv_handle_t *)&watch->poll, transfers_free_watch);
                        curl_multi_assign(transfers->multi, socket, NULL);
                }
                return 0;
        }
        if (watch == NULL) {
                watch = NEW(struct watch);
                watch->transfers = transfers;
                watch->socket = socket;
                uv_poll_init_socket(transfers->loop, &watch->poll, socket);
                curl_multi_assign(transfers->multi, socket, watch);
        }
        uv_poll_start(&watch->poll, (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                      transfers_on_socket);
        return 0;
}

struct transfers *transfers_new(uv_loop_t *loop)
{
        struct transfers *transfers = NEW(struct transfers);

        transfers->loop = loop;
        transfers->multi = curl_multi_init();
        assert(transfers->multi != NULL);
        curl_multi_setopt(transfers->multi, CURLMOPT_SOCKETFUNCTION, transfers_socket_wanted);
        curl_multi_setopt(transfers->multi, CURLMOPT_SOCKETDATA, transfers);
        curl_multi_setopt(transfers->multi, CURLMOPT_TIMERFUNCTION, transfers_timer_wanted);
        curl_multi_setopt(transfers->multi, CURLMOPT_TIMERDATA, transfers);
        curl_multi_setopt(transfers->multi, CURLMOPT_MAX_HOST_CONNECTIONS, 32L);
        uv_timer_init(loop, &transfers->timer);
        transfers->timer.data = transfers;
        uv_unref((uv_handle_t *)&transfers->timer);
        return transfers;
}

void transfers_add(struct transfers *transfers, CURL *easy, transfer_done_fn done, void *context)
{
        struct transfer *transfer = NEW(struct transfer);

        transfer->easy = easy;
        transfer->done = done;
        transfer->context = context;
        DL_APPEND(transfers->all, transfer);
        curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
        curl_multi_add_handle(transfers->multi, easy);
}

void transfers_remove(struct transfers *transfers, CURL *easy)
{
        struct transfer *transfer;

        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
        curl_multi_remove_handle(transfers->multi, easy);
        DL_DELETE(transfers->all, transfer);
        free(transfer);
}

void transfers_end_all(struct transfers *transfers)
{
        while (transfers->all != NULL)
                transfers_end(transfers, transfers->all, CURLE_ABORTED_BY_CALLBACK);
}

static void transfers_on_closed(uv_handle_t *handle)
{
        free(handle->data);
}

void transfers_free(struct transfers *transfers)
{
        if (transfers == NULL)
                return;
        curl_multi_cleanup(transfers->multi);
        uv_close((uv_handle_t *)&transfers->timer, transfers_on_closed);
}
