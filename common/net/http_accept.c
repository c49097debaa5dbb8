/* Accepts the HTTP server's connections: counts them by address, and learns from trusted proxies whom they speak for
 * (the PROXY protocol, which libmicrohttpd does not support), before it passes them to libmicrohttpd. */
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/net/http_private.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#define LISTEN_BACKLOG 1024
#define ACCEPT_BATCH   64

/* A port that we may never use must be fixed by a person. If another process still has it, the address is not up yet,
 * or no descriptor is left, trying again may help. */
static enum err_class accept_class_of_listen(int error)
{
        return error == EACCES || error == EPERM || error == EAFNOSUPPORT ? ERR_INPUT : ERR_BUSY;
}

int http_listen(const char *address, int port, struct err *err)
{
        struct sockaddr_storage where;
        int fd, one = 1;

        if (uv_ip4_addr(address, port, (struct sockaddr_in *)(void *)&where) < 0 &&
            uv_ip6_addr(address, port, (struct sockaddr_in6 *)(void *)&where) < 0)
                return err_set(err, ERR_INPUT, "listen", "%s is not an address to listen on", address);
        fd = socket(where.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0)
                setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (fd < 0 ||
            bind(fd, (struct sockaddr *)&where,
                 where.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)) < 0 ||
            listen(fd, LISTEN_BACKLOG) < 0) {
                int rc = err_set(err, accept_class_of_listen(errno), "listen", "cannot listen on %s port %d: %s",
                                 address, port, strerror(errno));

                if (fd >= 0)
                        close(fd);
                return rc;
        }
        return fd;
}

static bool accept_is_proxy(const struct http_server *server, const struct address *address)
{
        return proxies_believe(server->limits.proxies, address);
}

/* The connection count of the address; NULL if it has none. */
static struct http_source *accept_find_source(struct http_server *server, const struct address *address)
{
        struct address site = address_site(address);
        struct http_source *source;

        HASH_FIND(hh, server->sources, &site, sizeof(site), source);
        return source;
}

void http_connection_began(struct http_server *server, struct http_connection *peer)
{
        struct http_source *source = accept_find_source(server, &peer->address);

        DL_APPEND(server->connections, peer);
        server->connection_count++;
        if (source == NULL) {
                source = NEW(struct http_source);
                source->address = address_site(&peer->address);
                HASH_ADD(hh, server->sources, address, sizeof(source->address), source);
        }
        source->count++;
}

static void accept_on_acceptable(uv_poll_t *poll, int status, int events);

/* There is room again, or a moment has passed: connections in the kernel's queue may be accepted. */
static void accept_again(struct http_server *server)
{
        if (!server->full || !server->listening || server->connection_count >= server->limits.connections)
                return;
        server->full = false;
        uv_poll_start(&server->accept, UV_READABLE, accept_on_acceptable);
}

void http_connection_ended(struct http_server *server, struct http_connection *peer)
{
        struct http_source *source = accept_find_source(server, &peer->address);

        DL_DELETE(server->connections, peer);
        server->connection_count--;
        assert(source != NULL);
        if (--source->count == 0) {
                HASH_DEL(server->sources, source);
                free(source);
        }
        accept_again(server);
}

/* Passes the connection to libmicrohttpd, which owns the socket from then on. A proxy does not count as one caller:
 * only those it speaks for are counted. */
static void accept_admit(struct http_server *server, int fd, const struct address *address)
{
        const struct http_source *source =
                accept_is_proxy(server, address) ? NULL : accept_find_source(server, address);
        unsigned before = server->connection_count;
        struct sockaddr_storage socket;
        socklen_t length;

        if (source != NULL && source->count >= server->limits.per_address) {
                close(fd);
                return;
        }
        length = address_to_socket(address, &socket);
        if (MHD_add_connection(server->daemon, fd, (struct sockaddr *)&socket, length) == MHD_YES &&
            server->connection_count == before)
                MHD_run(server->daemon); /* otherwise the next one would not be counted against it */
        http_run_soon(server);
}

static void accept_free_guest(uv_handle_t *handle)
{
        free(handle->data);
}

/* Removes the guest; its socket stays open. */
static void accept_dismiss(struct http_guest *guest)
{
        DL_DELETE(guest->server->guests, guest);
        guest->server->connection_count--;
        uv_poll_stop(&guest->poll);
        uv_close((uv_handle_t *)&guest->poll, accept_free_guest);
}

static void accept_turn_away(struct http_guest *guest)
{
        int fd = guest->fd;
        struct http_server *server = guest->server;

        accept_dismiss(guest);
        close(fd);
        accept_again(server);
}

/* Wakes only when there is more than we have seen: unread bytes would otherwise wake us endlessly. */
static void accept_wait_for_more(struct http_guest *guest, int seen)
{
        int wanted = seen + 1;

        guest->looked_at = seen;
        setsockopt(guest->fd, SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof(wanted));
}

static void accept_let_in(struct http_guest *guest, const struct proxy_header *header)
{
        struct http_server *server = guest->server;
        struct address address = header->source.family ? header->source : guest->address;
        unsigned char bytes[PROXY_HEADER_LIMIT];
        int fd = guest->fd, one = 1;

        if (header->length > 0 && recv(fd, bytes, header->length, MSG_DONTWAIT) != (ssize_t)header->length) {
                accept_turn_away(guest);
                return;
        }
        setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
        accept_dismiss(guest);
        accept_admit(server, fd, &address);
}

static void accept_guest_spoke(uv_poll_t *poll, int status, int events)
{
        struct http_guest *guest = poll->data;
        unsigned char bytes[PROXY_HEADER_LIMIT];
        struct proxy_header header;
        ssize_t length = recv(guest->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);

        (void)events;
        if (length < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (status < 0 || length <= guest->looked_at) { /* woken without new data: the peer has closed */
                accept_turn_away(guest);
                return;
        }
        switch (proxy_header_read(bytes, (size_t)length, &header)) {
        case PROXY_HEADER_MORE:
                accept_wait_for_more(guest, (int)length);
                return;
        case PROXY_HEADER_BROKEN:
                accept_turn_away(guest);
                return;
        case PROXY_HEADER_NONE:
        case PROXY_HEADER_WHOLE:
                accept_let_in(guest, &header);
        }
}

static void accept_receive_guest(struct http_server *server, int fd, const struct address *address)
{
        struct http_guest *guest = NEW(struct http_guest);

        guest->server = server;
        guest->address = *address;
        guest->fd = fd;
        guest->since = clock_boot_ms();
        DL_APPEND(server->guests, guest);
        server->connection_count++;
        uv_poll_init(server->loop, &guest->poll, fd);
        guest->poll.data = guest;
        uv_unref((uv_handle_t *)&guest->poll);
        uv_poll_start(&guest->poll, UV_READABLE, accept_guest_spoke);
}

/* False if nobody is waiting any more, or nobody can be accepted now. */
static bool accept_one(struct http_server *server)
{
        struct sockaddr_storage from;
        socklen_t length = sizeof(from);
        struct address address;
        int fd;

        if (server->connection_count >= server->limits.connections) {
                server->full = true;
                return false;
        }
        fd = accept4(server->listener, (struct sockaddr *)&from, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
                server->full = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
                return errno == ECONNABORTED || errno == EINTR;
        }
        address = address_of((struct sockaddr *)&from);
        if (accept_is_proxy(server, &address))
                accept_receive_guest(server, fd, &address);
        else
                accept_admit(server, fd, &address);
        return true;
}

static void accept_on_acceptable(uv_poll_t *poll, int status, int events)
{
        struct http_server *server = poll->data;

        (void)status;
        (void)events;
        for (int i = 0; i < ACCEPT_BATCH && accept_one(server); i++)
                ;
        if (server->full)
                uv_poll_stop(&server->accept);
}

void http_sweep_guests(struct http_server *server, int64_t now)
{
        struct http_guest *guest, *next;

        DL_FOREACH_SAFE (server->guests, guest, next)
                if (now - guest->since > server->limits.read_ms)
                        accept_turn_away(guest);
        accept_again(server);
}

static void accept_on_closed(uv_handle_t *handle)
{
        http_handle_closed(handle->data);
}

void http_start_accepting(struct http_server *server)
{
        uv_poll_init(server->loop, &server->accept, server->listener);
        server->accept.data = server;
        server->handles++;
        uv_unref((uv_handle_t *)&server->accept);
        uv_poll_start(&server->accept, UV_READABLE, accept_on_acceptable);
}

/* Connections that the kernel has already accepted are told that we are stopping, not just cut off. */
void http_stop_accepting(struct http_server *server)
{
        struct http_guest *guest, *next;

        for (int i = 0; i < LISTEN_BACKLOG && accept_one(server); i++)
                ;
        DL_FOREACH_SAFE (server->guests, guest, next)
                accept_turn_away(guest);
        uv_poll_stop(&server->accept);
        close(server->listener);
        uv_close((uv_handle_t *)&server->accept, accept_on_closed);
}
