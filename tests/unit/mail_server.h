/* A mail server on a thread, which says what a test wants it to say, or nothing. */
#pragma once

#include "common/base/buf.h"
#include "common/base/memory.h"
#include "tests/unit/check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#define CONNECTIONS 4

/* What the server does with each connection, and what it got. */
struct server {
        int listener, connections[CONNECTIONS], count;

        pthread_t accepting, talking[CONNECTIONS];
        const char *to_recipient, *to_login, *to_mail; /* its answers; to_mail NULL = it ends without one, "" = never */
        pthread_mutex_t lock;
        struct buf got;
        char url[64];
};

struct talk {
        struct server *server;
        int socket;
};

static bool say(int socket, const char *line)
{
        auto_free char *bytes = mem_printf("%s\r\n", line);

        return send(socket, bytes, strlen(bytes), MSG_NOSIGNAL) == (ssize_t)strlen(bytes);
}

/* Without its end; false at the end of the connection. */
static bool hear(int socket, struct buf *line)
{
        char byte;

        buf_reset(line);
        while (recv(socket, &byte, 1, 0) == 1) {
                buf_add(line, &byte, 1);
                if (line->length >= 2 && strcmp(line->data + line->length - 2, "\r\n") == 0) {
                        line->data[line->length -= 2] = '\0';
                        return true;
                }
        }
        return false;
}

static bool take_mail(struct server *server, int socket, struct buf *line)
{
        if (!say(socket, "354 go on"))
                return false;
        while (hear(socket, line) && strcmp(line->data, ".") != 0) {
                pthread_mutex_lock(&server->lock);
                buf_printf(&server->got, "%s\r\n", line->data + (line->data[0] == '.'));
                pthread_mutex_unlock(&server->lock);
        }
        if (server->to_mail != NULL && *server->to_mail == '\0')
                return hear(socket, line); /* it says nothing, and waits for the other side to give up */
        return server->to_mail != NULL && say(socket, server->to_mail);
}

static bool answer(struct server *server, int socket, struct buf *line)
{
        if (strncmp(line->data, "EHLO", 4) == 0)
                return say(socket, "250-mail.test") && say(socket, "250 AUTH PLAIN");
        if (strncmp(line->data, "AUTH", 4) == 0)
                return say(socket, server->to_login);
        if (strncmp(line->data, "RCPT", 4) == 0)
                return say(socket, server->to_recipient);
        if (strcmp(line->data, "DATA") == 0)
                return take_mail(server, socket, line);
        return say(socket, "250 so be it");
}

static void *talk(void *context)
{
        struct talk *talk = context;
        auto_buf line = { 0 };

        if (say(talk->socket, "220 mail.test"))
                while (hear(talk->socket, &line) && answer(talk->server, talk->socket, &line))
                        ;
        shutdown(talk->socket, SHUT_RDWR);
        free(talk);
        return NULL;
}

static void *accept_all(void *context)
{
        struct server *server = context;
        int socket;

        while ((socket = accept(server->listener, NULL, NULL)) >= 0) {
                struct talk *with = NEW(struct talk);

                *with = (struct talk){ server, socket };
                assert(server->count < CONNECTIONS);
                server->connections[server->count] = socket;
                pthread_create(&server->talking[server->count++], NULL, talk, with);
        }
        return NULL;
}

static void open_server(struct server *server)
{
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t length = sizeof(address);

        *server = (struct server){ .to_recipient = "250 known", .to_login = "235 welcome", .to_mail = "250 taken" };
        pthread_mutex_init(&server->lock, NULL);
        server->listener = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(server->listener, (struct sockaddr *)&address, length), 0);
        assert_int_equal(listen(server->listener, CONNECTIONS), 0);
        assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &length), 0);
        snprintf(server->url, sizeof(server->url), "smtp://127.0.0.1:%d", ntohs(address.sin_port));
        pthread_create(&server->accepting, NULL, accept_all, server);
}

static void close_server(struct server *server)
{
        shutdown(server->listener, SHUT_RDWR);
        pthread_join(server->accepting, NULL);
        close(server->listener);
        for (int i = 0; i < server->count; i++) {
                shutdown(server->connections[i], SHUT_RDWR);
                pthread_join(server->talking[i], NULL);
                close(server->connections[i]);
        }
        pthread_mutex_destroy(&server->lock);
        buf_free(&server->got);
}
