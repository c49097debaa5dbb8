/* The caller of a request: the peer, or the client behind a trusted proxy. See proxies.h. */
#include "common/net/http_private.h"

#include <string.h>

/* What the two headers say. */
struct told {
        struct proxy_chain forwarded, x_forwarded_for;
        bool by_forwarded, by_x_forwarded_for;
};

static enum MHD_Result caller_proxy_line_found(void *context, enum MHD_ValueKind kind, const char *name,
                                               const char *value)
{
        struct told *told = context;

        (void)kind;
        if (value != NULL && strcasecmp(name, "Forwarded") == 0) {
                proxy_chain_add_forwarded(&told->forwarded, value);
                told->by_forwarded = true;
        } else if (value != NULL && strcasecmp(name, "X-Forwarded-For") == 0) {
                proxy_chain_add_x_forwarded_for(&told->x_forwarded_for, value);
                told->by_x_forwarded_for = true;
        }
        return MHD_YES;
}

/* The caller. A proxy writes one of the two headers and passes on the other unchanged: if they differ, an untrusted
 * client may have written either, and only the proxy itself is certain. */
static struct address caller_find(const struct http_request *request)
{
        const struct proxies *proxies = request->server->limits.proxies;
        struct address peer = request->peer ? request->peer->address : (struct address){ 0 }, one, other;
        struct told told = { .forwarded.proxies = proxies, .x_forwarded_for.proxies = proxies };

        if (!proxies_believe(proxies, &peer))
                return peer;
        MHD_get_connection_values(request->connection, MHD_HEADER_KIND, caller_proxy_line_found, &told);
        one = proxy_chain_caller(&told.forwarded, &peer);
        other = proxy_chain_caller(&told.x_forwarded_for, &peer);
        if (told.by_forwarded && told.by_x_forwarded_for)
                return address_equal(&one, &other) ? one : peer;
        return told.by_forwarded ? one : other;
}

void http_find_caller(struct http_request *request)
{
        struct address caller = caller_find(request), site = address_site(&caller);

        address_print(&caller, request->address);
        address_print(&site, request->site);
}
