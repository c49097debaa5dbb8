/* How a connection to PostgreSQL finds its server: names are looked up off the loop, and each host of a list is tried.
 */
#include "common/pg/pg.h"

#include "tests/unit/check.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#define DEADLINE 120 /* seconds, for all tests together */

static pthread_t loop_thread;
static atomic_int looked_up, on_loop;
static atomic_bool name_server_answers = true;

/* The name server: whoever asks on the loop's thread is counted, for it may not answer for long. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
        int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
        struct addrinfo *second;
        bool has_two;
        int rc;

        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
        if (node == NULL || strstr(node, ".test") == NULL)
                return real(node, service, hints, res);
        atomic_fetch_add(pthread_equal(pthread_self(), loop_thread) ? &on_loop : &looked_up, 1);
        while (!atomic_load(&name_server_answers))
                sched_yield();
        has_two = strcmp(node, "two.test") == 0;
        if (strcmp(node, "unknown.test") == 0)
                return EAI_NONAME;
        rc = real(has_two ? "127.0.0.2" : "127.0.0.1", service, hints, res);
        if (rc == 0 && has_two && (rc = real("127.0.0.1", service, hints, &second)) == 0)
                (*res)->ai_next = second;
        return rc;
}

/* Something on 127.0.0.1 to which a connection is made. */
static int open_listener(char port[8])
{
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t length = sizeof(address);
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

        assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
        assert_int_equal(listen(listener, 4), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
        snprintf(port, 8, "%d", ntohs(address.sin_port));
        return listener;
}

struct opening {
        uv_loop_t loop;
        struct pg_conn *conn;
        int told;
        struct err err;
};

static void note_opened(void *context, const struct err *err)
{
        struct opening *opening = context;

        opening->told++;
        if (err != NULL)
                opening->err = *err;
        pg_close(TAKE_PTR(opening->conn));
}

static void open_by(struct opening *opening, const char *url)
{
        struct pg_target target = { .url = url };

        *opening = (struct opening){ .told = 0 };
        loop_thread = pthread_self();
        atomic_store(&looked_up, 0);
        atomic_store(&on_loop, 0);
        uv_loop_init(&opening->loop);
        opening->conn = pg_open(&opening->loop, &target, note_opened, opening);
}

static void end(struct opening *opening)
{
        pg_close(TAKE_PTR(opening->conn));
        assert_int_equal(uv_run(&opening->loop, UV_RUN_DEFAULT), 0);
        assert_int_equal(uv_loop_close(&opening->loop), 0);
        assert_int_equal(on_loop, 0);
}

/* The listener hears of it, within the deadline of all tests. */
static void assert_reaches(const char *before_port, const char *after_port, int look_ups)
{
        char port[8];
        int listener = open_listener(port), reached;
        auto_free char *url = mem_printf("%s%s%s", before_port, port, after_port);
        struct opening opening;

        open_by(&opening, url);
        while ((reached = accept(listener, NULL, NULL)) < 0) {
                assert_int_equal(opening.told, 0);
                uv_run(&opening.loop, UV_RUN_NOWAIT);
        }
        assert_int_equal(looked_up, look_ups);
        close(reached);
        close(listener);
        end(&opening);
}

static void test_each_name_of_a_list_is_looked_up_off_the_loop_and_has_its_own_port(void **state)
{
        (void)state;
        assert_reaches("postgresql://ada@a.test:", "/db", 1);
        assert_reaches("postgresql://ada@a.test:1,b.test:", "/db", 2);
        assert_reaches("postgresql://ada@127.0.0.1:1,b.test:2,c.test:", "/db", 2);
        assert_reaches("postgresql://ada@/db?host=/nonexistent,b.test&port=1,", "", 1);
        assert_reaches("host=a.test,b.test user=ada port=", "", 2);
        assert_reaches("postgresql://ada@127.0.0.1:1,127.0.0.1:", "/db", 0);
}

static void test_a_name_without_an_address_leaves_the_others(void **state)
{
        (void)state;
        assert_reaches("postgresql://ada@unknown.test:1,b.test:", "/db", 2);
        assert_reaches("postgresql://ada@b.test:", ",unknown.test:1/db", 2);
}

static void test_all_addresses_of_a_name_are_tried(void **state)
{
        (void)state;
        assert_reaches("postgresql://ada@two.test:", "/db", 1);
        assert_reaches("postgresql://ada@unknown.test:1,two.test:", "/db", 2);
}

/* As a server that is stopped, or a machine that is gone: the kernel takes the connection, and nobody says anything. */
static void test_a_host_that_says_nothing_leaves_time_for_the_others(void **state)
{
        static const char *const lists[] = { "127.0.0.1,127.0.0.1,127.0.0.1", "a.test,b.test,c.test" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
                char silent[8], other[8], last[8];
                int listeners[] = { open_listener(silent), open_listener(other), open_listener(last) }, reached[3];
                auto_free char *url = mem_printf("host=%s port=%s,%s,%s user=ada", lists[i], silent, other, last);
                struct pg_target target = { .url = url, .connect_timeout_ms = 600 };
                struct opening opening = { .told = 0 };

                uv_loop_init(&opening.loop);
                opening.conn = pg_open(&opening.loop, &target, note_opened, &opening);
                while (opening.told == 0)
                        uv_run(&opening.loop, UV_RUN_ONCE);
                for (size_t n = 0; n < ARRAY_SIZE(listeners); n++) {
                        reached[n] = accept(listeners[n], NULL, NULL);
                        assert_true(reached[n] >= 0);
                        assert_int_equal(accept(listeners[n], NULL, NULL), -1); /* and once */
                        close(reached[n]);
                        close(listeners[n]);
                }
                assert_string_equal(opening.err.code, "connect_timeout");
                end(&opening);
        }
}

static void assert_fails(const char *url, const char *code, const char *words)
{
        struct opening opening;

        open_by(&opening, url);
        while (opening.told == 0)
                uv_run(&opening.loop, UV_RUN_ONCE);
        assert_string_equal(opening.err.code, code);
        assert_contains(opening.err.message, words);
        assert_lacks(opening.err.message, "secret");
        end(&opening);
        assert_int_equal(opening.told, 1);
}

static void test_hosts_that_lead_nowhere_are_told_of_in_words(void **state)
{
        (void)state;
        assert_fails("postgresql://ada:secret@unknown.test/db", "resolve_failed", "has no address");
        assert_fails("postgresql://ada:secret@unknown.test:1,unknown.test:2/db", "resolve_failed", "has no address");
        assert_fails("host=a.test,b.test,c.test port=1,2 user=ada password=secret", "connect_failed", "port numbers");
}

static void test_who_closes_a_connection_whose_name_is_looked_up_hears_no_more_of_it(void **state)
{
        static const char *const urls[] = { "postgresql://ada@a.test/db", "postgresql://ada@a.test,b.test/db" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
                struct opening opening;

                atomic_store(&name_server_answers, false);
                open_by(&opening, urls[i]);
                while (looked_up == 0)
                        uv_run(&opening.loop, UV_RUN_NOWAIT);
                pg_close(TAKE_PTR(opening.conn));
                atomic_store(&name_server_answers, true);
                end(&opening);
                assert_int_equal(opening.told, 0);
                assert_int_equal(looked_up, 1);
        }
}

static void test_a_name_server_that_does_not_answer_is_waited_for_no_longer_than_a_connection(void **state)
{
        struct pg_target target = { .url = "postgresql://ada@a.test,b.test/db", .connect_timeout_ms = 50 };
        struct opening opening = { .told = 0 };

        (void)state;
        atomic_store(&name_server_answers, false);
        uv_loop_init(&opening.loop);
        opening.conn = pg_open(&opening.loop, &target, note_opened, &opening);
        while (opening.told == 0)
                uv_run(&opening.loop, UV_RUN_ONCE);
        assert_string_equal(opening.err.code, "connect_timeout");
        atomic_store(&name_server_answers, true);
        end(&opening);
        assert_int_equal(opening.told, 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_each_name_of_a_list_is_looked_up_off_the_loop_and_has_its_own_port),
                SENTENCE(test_a_name_without_an_address_leaves_the_others),
                SENTENCE(test_all_addresses_of_a_name_are_tried),
                SENTENCE(test_a_host_that_says_nothing_leaves_time_for_the_others),
                SENTENCE(test_hosts_that_lead_nowhere_are_told_of_in_words),
                SENTENCE(test_who_closes_a_connection_whose_name_is_looked_up_hears_no_more_of_it),
                SENTENCE(test_a_name_server_that_does_not_answer_is_waited_for_no_longer_than_a_connection),
        };

        alarm(DEADLINE);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
