/* libcurl's transfers on our loop; what the HTTP client and the mail sender share. */
#pragma once

#include "common/base/err.h"

#include <curl/curl.h>
#include <uv.h>

struct transfers;

typedef void (*transfer_done_fn)(void *context, CURLcode code);

struct transfers *transfers_new(uv_loop_t *loop);
/* Runs a prepared handle (borrowed until done). done is called once, later, on the loop thread. */
void transfers_add(struct transfers *transfers, CURL *easy, transfer_done_fn done, void *context);
/* Ends a transfer without calling done. */
void transfers_remove(struct transfers *transfers, CURL *easy);
/* The process ends: done is called for each transfer in flight, with CURLE_ABORTED_BY_CALLBACK, and starts no other. */
void transfers_end_all(struct transfers *transfers);
/* All transfers must have ended or been removed. */
void transfers_free(struct transfers *transfers);
