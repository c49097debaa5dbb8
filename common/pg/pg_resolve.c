/* Resolves a connection's hosts on worker threads: libpq would do it on the loop, where a name server that does not
 * answer blocks everything. Hosts are a list, as in libpq ("a,b,c", ports "1,2,3"), and a name may have several
 * addresses: libpq gets one entry for each, in the same order, and tries one after the other. A host without an address
 * is left out if others have one. So is a host that accepts the connection and then does not answer, once it has used
 * its share of the time: libpq would wait for that one only. */
#include "common/base/buf.h"
#include "common/base/memory.h"
#include "common/pg/pg_private.h"

#include <string.h>

#define ADDRESSES_MOST 16 /* of all hosts together */

struct pg_resolve {
        uv_getaddrinfo_t request;
        struct pg_conn *conn; /* NULL once it is closed */
        char *hosts, *ports;
        int at, count;                  /* the host being resolved */
        bool ports_each;                /* otherwise one port, or none, for all */
        struct buf host, address, port; /* the lists for libpq */
        int entries, failure;
};

static int resolve_count_items(const char *list)
{
        int count = 1;

        for (; *list; list++)
                count += *list == ',';
        return count;
}

/* Item at (from 0) of a list that has so many; the caller frees. */
static char *resolve_item_of(const char *list, int at)
{
        for (; at > 0; at--)
                list = strchr(list, ',') + 1;
        return mem_copy_bytes(list, strcspn(list, ","));
}

static void resolve_free(struct pg_resolve *resolve)
{
        free(resolve->hosts);
        free(resolve->ports);
        buf_free(&resolve->host);
        buf_free(&resolve->address);
        buf_free(&resolve->port);
        free(resolve);
}

static void resolve_add(struct pg_resolve *resolve, const char *address)
{
        auto_free char *host = resolve_item_of(resolve->hosts, resolve->at);
        auto_free char *port = resolve->ports_each ? resolve_item_of(resolve->ports, resolve->at) : NULL;
        const char *comma = resolve->entries > 0 ? "," : "";

        if (resolve->entries == ADDRESSES_MOST)
                return;
        resolve->entries++;
        buf_printf(&resolve->host, "%s%s", comma, host);
        buf_printf(&resolve->address, "%s%s", comma, address);
        buf_printf(&resolve->port, "%s%s", comma, port ? port : "");
}

/* It is a socket directory, or already an address. */
static bool resolve_is_no_name(const char *host)
{
        struct in6_addr ignored;

        return *host == '\0' || *host == '/' || *host == '@' || uv_inet_pton(AF_INET, host, &ignored) == 0 ||
               uv_inet_pton(AF_INET6, host, &ignored) == 0;
}

static void resolve_next(struct pg_resolve *resolve);

static void resolve_on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
        struct pg_resolve *resolve = CONTAINER_OF(request, struct pg_resolve, request);

        if (status != 0)
                resolve->failure = status;
        for (const struct addrinfo *each = status == 0 ? found : NULL; each != NULL; each = each->ai_next) {
                char address[INET6_ADDRSTRLEN] = "";

                if (each->ai_family == AF_INET)
                        uv_ip4_name((const struct sockaddr_in *)(const void *)each->ai_addr, address, sizeof(address));
                else if (each->ai_family == AF_INET6)
                        uv_ip6_name((const struct sockaddr_in6 *)(const void *)each->ai_addr, address, sizeof(address));
                if (*address != '\0')
                        resolve_add(resolve, address);
        }
        uv_freeaddrinfo(found);
        resolve->at++;
        resolve_next(resolve);
}

static void resolve_end(struct pg_resolve *resolve)
{
        struct pg_conn *conn = resolve->conn;
        struct err err;

        conn->resolve = NULL;
        if (resolve->entries == 0) {
                err_set(&err, ERR_BUSY, "resolve_failed", "the database's host has no address: %s",
                        uv_strerror(resolve->failure));
                resolve_free(resolve);
                pg_fail_to_open(conn, &err);
                return;
        }
        pg_replace_option(conn, "host", resolve->host.data);
        pg_replace_option(conn, "hostaddr", resolve->address.data);
        if (resolve->ports_each)
                pg_replace_option(conn, "port", resolve->port.data);
        resolve_free(resolve);
        pg_start_connect(conn);
}

static void resolve_next(struct pg_resolve *resolve)
{
        for (; resolve->conn != NULL && resolve->at < resolve->count; resolve->at++) {
                auto_free char *host = resolve_item_of(resolve->hosts, resolve->at);

                if (resolve_is_no_name(host)) {
                        resolve_add(resolve, "");
                        continue;
                }
                resolve->failure = uv_getaddrinfo(resolve->conn->loop, &resolve->request, resolve_on_resolved, host,
                                                  NULL, &(struct addrinfo){ .ai_socktype = SOCK_STREAM });
                if (resolve->failure == 0)
                        return;
        }
        if (resolve->conn == NULL)
                resolve_free(resolve);
        else
                resolve_end(resolve);
}

void pg_resolve(struct pg_conn *conn)
{
        const char *hosts = pg_option(conn, "host"), *ports = pg_option(conn, "port");
        int count = hosts ? resolve_count_items(hosts) : 0, ports_count = ports ? resolve_count_items(ports) : 0;
        struct pg_resolve *resolve;

        /* Nothing to resolve, or an error that libpq reports better. */
        if (hosts == NULL || pg_option(conn, "hostaddr") != NULL || (count == 1 && resolve_is_no_name(hosts)) ||
            (ports_count > 1 && ports_count != count)) {
                pg_start_connect(conn);
                return;
        }
        resolve = NEW(struct pg_resolve);
        resolve->conn = conn;
        resolve->hosts = mem_copy_text(hosts);
        resolve->ports = mem_copy_text(ports);
        resolve->ports_each = ports_count > 1;
        resolve->count = count;
        conn->resolve = resolve;
        resolve_next(resolve);
}

int pg_hosts(const struct pg_conn *conn)
{
        const char *hosts = pg_option(conn, "host");

        return hosts ? resolve_count_items(hosts) : 1;
}

/* Removes one item from the list; a single item, valid for all hosts, stays. */
static void resolve_leave_out(struct pg_conn *conn, const char *keyword, int at)
{
        const char *list = pg_option(conn, keyword);
        int count = list ? resolve_count_items(list) : 0;
        auto_buf rest = { 0 };

        for (int i = 0; i < count; i++) {
                auto_free char *item = resolve_item_of(list, i);

                if (i != at)
                        buf_printf(&rest, "%s%s", i > (at == 0) ? "," : "", item);
        }
        if (count > 1)
                pg_replace_option(conn, keyword, rest.data);
}

/* Whether libpq is currently at item i of the list; with no list, or only one item, always true. */
static bool resolve_is_at(const char *list, int i, const char *now)
{
        auto_free char *item = list && strchr(list, ',') ? resolve_item_of(list, i) : NULL;

        return item == NULL || *item == '\0' || (now != NULL && strcmp(item, now) == 0);
}

bool pg_leave_host(struct pg_conn *conn)
{
        int count = pg_hosts(conn), at = 0;

        if (count == 1)
                return false;
        while (at < count - 1 && !(resolve_is_at(pg_option(conn, "host"), at, PQhost(conn->pq)) &&
                                   resolve_is_at(pg_option(conn, "hostaddr"), at, PQhostaddr(conn->pq)) &&
                                   resolve_is_at(pg_option(conn, "port"), at, PQport(conn->pq))))
                at++;
        if (at == count - 1)
                return false; /* the others were tried before it */
        for (int i = 0; i <= at; i++) {
                resolve_leave_out(conn, "host", 0);
                resolve_leave_out(conn, "hostaddr", 0);
                resolve_leave_out(conn, "port", 0);
        }
        return true;
}

void pg_forget_resolve(struct pg_conn *conn)
{
        if (conn->resolve == NULL)
                return;
        uv_cancel((uv_req_t *)&conn->resolve->request);
        conn->resolve->conn = NULL;
        conn->resolve = NULL;
}
