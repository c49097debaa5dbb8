/* Trusted proxies, and what they say about the clients behind them: Forwarded (RFC 7239), X-Forwarded-For, and the
 * PROXY protocol, versions 1 and 2. Without sockets, so that it can be tested with any hostile input. */
#pragma once

#include "common/base/err.h"
#include "common/net/address.h"

struct proxies;

/* text: addresses and ranges ("10.0.0.0/8, 2001:db8::/32") with commas; NULL = none. name: the option, for the error.
 * Returns 0 and *ret, or -ERR_INPUT. */
int proxies_parse(const char *name, const char *text, struct proxies **ret, struct err *err);
void proxies_free(struct proxies *proxies);
/* proxies may be NULL: then nobody is trusted. */
bool proxies_believe(const struct proxies *proxies, const struct address *address);

/* The path of a request, from its first hop to its last, as the lines of one header describe it. What counts is the
 * last hop that is not one of our proxies: everything before it was written by untrusted clients. */
struct proxy_chain {
        const struct proxies *proxies;
        struct address found;
        bool known, wanted; /* wanted: that hop has no address we can read; the hop that reported it counts instead */
};

void proxy_chain_add_forwarded(struct proxy_chain *chain, const char *line);       /* a line of Forwarded */
void proxy_chain_add_x_forwarded_for(struct proxy_chain *chain, const char *line); /* a line of X-Forwarded-For */
/* The hop that counts; peer, who sent the request to us, if the lines say nothing. */
struct address proxy_chain_caller(const struct proxy_chain *chain, const struct address *peer);

enum proxy_header_state {
        PROXY_HEADER_NONE,  /* these bytes are not a PROXY header */
        PROXY_HEADER_MORE,  /* it may be one so far */
        PROXY_HEADER_WHOLE, /* it has length bytes */
        PROXY_HEADER_BROKEN,
};

#define PROXY_HEADER_LIMIT 4096 /* longer ones count as broken */

struct proxy_header {
        size_t length;
        struct address source; /* family 0: the proxy speaks for itself, or for something without an address */
};

enum proxy_header_state proxy_header_read(const unsigned char *bytes, size_t length, struct proxy_header *ret);
