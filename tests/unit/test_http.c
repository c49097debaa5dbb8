/* The HTTP server in this process's loop, met over real sockets; and what proxies write, as anybody may send it. */
#include "check.h"

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/net/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define V2_SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define PATIENCE     SECONDS(10)

/* Who calls, as the headers tell it when 10.0.0.0/8 and 2001:db8:ffff::/48 are ours. */

static struct proxies *ours(void)
{
        struct proxies *proxies = NULL;
        struct err err = { 0 };

        if (proxies_parse("TRUSTED_PROXIES", "10.0.0.0/8, 2001:db8:ffff::/48", &proxies, &err) < 0)
                fail_msg("%s", err.message);
        return proxies;
}

static void check_chain(void (*add)(struct proxy_chain *chain, const char *line), const char *line, const char *wanted)
{
        struct proxies *proxies = ours();
        struct proxy_chain chain = { .proxies = proxies };
        struct address peer = { 0 }, caller;
        char text[ADDRESS_TEXT];

        assert_true(address_parse("10.0.0.1", 8, &peer));
        add(&chain, line);
        caller = proxy_chain_caller(&chain, &peer);
        address_print(&caller, text);
        if (strcmp(text, wanted) != 0)
                fail_msg("\"%.200s\" gives %s instead of %s", line, text, wanted);
        proxies_free(proxies);
}

struct header_case {
        const char *line, *caller;
};

static void test_the_last_hop_that_is_not_ours_counts_in_x_forwarded_for(void **state)
{
        static const struct header_case cases[] = {
                { "", "10.0.0.1" },
                { "198.51.100.7", "198.51.100.7" },
                { "1.1.1.1, 198.51.100.7", "198.51.100.7" },
                { "1.1.1.1,198.51.100.7,10.0.0.9, 10.200.0.1", "198.51.100.7" },
                { "10.0.0.3, 10.0.0.2", "10.0.0.3" },
                { "198.51.100.7:4711", "198.51.100.7" },
                { "2001:db8::5", "2001:db8::5" },
                { "[2001:db8::5]", "2001:db8::5" },
                { "[2001:db8::5]:443", "2001:db8::5" },
                { "::ffff:198.51.100.7", "198.51.100.7" },
                { "1.1.1.1, 2001:db8:ffff::9", "1.1.1.1" },
                { " ,, 198.51.100.7 ,", "198.51.100.7" },
                /* What has no address counts for who told of it. */
                { "1.1.1.1, unknown", "10.0.0.1" },
                { "unknown, 10.0.0.2", "10.0.0.2" },
                { "1.1.1.1, _hidden, 10.0.0.2, 10.0.0.3", "10.0.0.2" },
                { "198.51.100.7, <script>", "10.0.0.1" },
                { "198.51.100.7:99999999", "10.0.0.1" },
                { "198.51.100.7:x", "10.0.0.1" },
                { "[198.51.100.7]", "10.0.0.1" },
                { "[2001:db8::5", "10.0.0.1" },
                { "[2001:db8::5]443", "10.0.0.1" },
                { "2001:db8::5%eth0", "10.0.0.1" },
                { "198.51.100.007", "10.0.0.1" },
                { "198.51.100.7 10.0.0.2", "10.0.0.1" },
                { "0x7f.1", "10.0.0.1" },
                { "\"198.51.100.7\"", "10.0.0.1" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                check_chain(proxy_chain_add_x_forwarded_for, cases[i].line, cases[i].caller);
}

static void test_the_last_hop_that_is_not_ours_counts_in_forwarded(void **state)
{
        static const struct header_case cases[] = {
                { "for=198.51.100.7", "198.51.100.7" },
                { "For=\"198.51.100.7\";proto=https;by=10.0.0.1", "198.51.100.7" },
                { "for=1.1.1.1, for=198.51.100.7;by=10.0.0.2, for=10.0.0.2", "198.51.100.7" },
                { "for=\"[2001:db8::5]:4711\"", "2001:db8::5" },
                { "FOR=\"198.51.100.7:80\"", "198.51.100.7" },
                { "for=198.51.100.7:80, for=[2001:db8:ffff::3]:443", "198.51.100.7" },
                { "proto=http; for = 1.1.1.1", "10.0.0.1" },
                { "for=1.1.1.1;ext=\"a\\\"b,c;d\", for=198.51.100.7", "198.51.100.7" },
                { "for=1.1.1.1, for=unknown", "10.0.0.1" },
                { "for=_secret, for=10.0.0.2", "10.0.0.2" },
                { "for=1.1.1.1, proto=https", "10.0.0.1" },
                { "((((, for=198.51.100.7", "198.51.100.7" },
                { "for=1.1.1.1 for=2.2.2.2, for=198.51.100.7", "198.51.100.7" },
                /* A quotation mark that a stranger left open: what our proxy wrote behind it cannot be told apart. */
                { "for=1.1.1.1;x=\", for=198.51.100.7", "10.0.0.1" },
                { "for=1.1.1.1;x=\", for=\"[2001:db8::5]\"", "10.0.0.1" },
                { "for=\", for=\"[2001:db8::5]:80\";by=\"[2001:db8:ffff::1]\"", "10.0.0.1" },
                { "for=1.1.1.1;x=\"\\", "10.0.0.1" },
                { "for=", "10.0.0.1" },
                { "=1.1.1.1", "10.0.0.1" },
                { ";;;", "10.0.0.1" },
                { "for=1.1.1.1;=", "10.0.0.1" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                check_chain(proxy_chain_add_forwarded, cases[i].line, cases[i].caller);
}

static void test_a_thousand_hops_are_read_to_the_last(void **state)
{
        auto_buf list = { 0 };
        auto_buf forwarded = { 0 };

        (void)state;
        for (int i = 0; i < 1000; i++) {
                buf_printf(&list, "1.1.%d.%d, ", i / 256, i % 256);
                buf_printf(&forwarded, "for=1.1.%d.%d, ", i / 256, i % 256);
        }
        buf_add_text(&list, "198.51.100.7, 10.0.0.4");
        buf_add_text(&forwarded, "for=198.51.100.7, for=10.0.0.4");
        check_chain(proxy_chain_add_x_forwarded_for, list.data, "198.51.100.7");
        check_chain(proxy_chain_add_forwarded, forwarded.data, "198.51.100.7");
}

static void test_proxies_are_addresses_and_ranges_or_refused_by_name(void **state)
{
        static const char *const bad[] = {
                "10.0.0.0/33",
                "10.0.0.1/8",
                "10.0.0.0/",
                "10.0.0.0/x",
                "10.0.0.0/-1",
                "10.0.0.0/8x",
                "proxy.example",
                "2001:db8::/129",
                "2001:db8::1/32",
                "[2001:db8::1]",
                "10.0.0",
                "/8",
                "*",
                "10.0.0.1:80",
                "10.0.0.0 /8",
        };
        static const char *const good[] = {
                NULL, "", "10.0.0.1", "0.0.0.0/0", "10.0.0.0/8,192.168.0.0/16\n2001:db8::/32 ::/0", "10.0.0.1/32",
        };
        struct proxies *proxies = NULL;
        struct err err;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                if (proxies_parse("TRUSTED_PROXIES", bad[i], &proxies, &err) != -ERR_INPUT)
                        fail_msg("%s is taken", bad[i]);
                assert_string_equal(err.field, "TRUSTED_PROXIES");
                assert_contains(err.message, "range");
        }
        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                assert_int_equal(proxies_parse("TRUSTED_PROXIES", good[i], &proxies, &err), 0);
                proxies_free(proxies);
        }
}

static void test_a_range_ends_at_its_last_bit(void **state)
{
        static const struct {
                const char *address;
                bool believed;
        } cases[] = { { "172.16.0.0", true },  { "172.31.255.255", true },   { "172.32.0.0", false },
                      { "172.15.9.9", false }, { "fd00::1", true },          { "fdff:ffff::", true },
                      { "fc00::1", false },    { "::ffff:172.16.0.1", true } };
        struct proxies *proxies = NULL;
        struct address address;

        (void)state;
        assert_int_equal(proxies_parse("P", "172.16.0.0/12, fd00::/8", &proxies, NULL), 0);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_true(address_parse(cases[i].address, strlen(cases[i].address), &address));
                assert_int_equal(proxies_believe(proxies, &address), cases[i].believed);
        }
        proxies_free(proxies);
}

/* The PROXY protocol's header. */

static void check_header(const void *bytes, size_t length, enum proxy_header_state wanted, const char *source)
{
        struct proxy_header header;
        char text[ADDRESS_TEXT];

        assert_int_equal(proxy_header_read(bytes, length, &header), wanted);
        if (wanted != PROXY_HEADER_WHOLE)
                return;
        address_print(&header.source, text);
        assert_string_equal(text, source);
        for (size_t cut = 0; cut < header.length; cut++) { /* however it is cut on the way */
                struct proxy_header part;

                assert_int_equal(proxy_header_read(bytes, cut, &part), PROXY_HEADER_MORE);
        }
}

static void test_the_text_form_tells_the_source_or_is_refused(void **state)
{
        static const struct {
                const char *text;
                enum proxy_header_state wanted;
                const char *source;
        } cases[] = {
                { "PROXY TCP4 198.51.100.7 10.0.0.1 56324 443\r\nGET /", PROXY_HEADER_WHOLE, "198.51.100.7" },
                { "PROXY TCP6 2001:db8::5 2001:db8::1 56324 443\r\n", PROXY_HEADER_WHOLE, "2001:db8::5" },
                { "PROXY UNKNOWN\r\n", PROXY_HEADER_WHOLE, "unknown" },
                { "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", PROXY_HEADER_WHOLE, "unknown" },
                { "PROXY UDP4 198.51.100.7 10.0.0.1 1 2\r\n", PROXY_HEADER_BROKEN, NULL },
                { "PROXY TCP4 evil 10.0.0.1 1 2\r\n", PROXY_HEADER_BROKEN, NULL },
                { "PROXY TCP4 198.51.100.7\r\n", PROXY_HEADER_BROKEN, NULL },
                { "PROXY TCP4\r\n", PROXY_HEADER_BROKEN, NULL },
                { "PROXY \r\n", PROXY_HEADER_BROKEN, NULL },
                { "PROXY /x HTTP/1.1\r\n", PROXY_HEADER_BROKEN, NULL },
                { "POST / HTTP/1.1\r\n", PROXY_HEADER_NONE, NULL },
                { "PROPFIND / HTTP/1.1\r\n", PROXY_HEADER_NONE, NULL },
                { "\r\n\r\nGET / HTTP/1.1\r\n", PROXY_HEADER_NONE, NULL },
                { "PRO", PROXY_HEADER_MORE, NULL },
        };
        char endless[200];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                check_header(cases[i].text, strlen(cases[i].text), cases[i].wanted, cases[i].source);
        memset(endless, ' ', sizeof(endless));
        memcpy(endless, "PROXY TCP4", 10);
        check_header(endless, sizeof(endless), PROXY_HEADER_BROKEN, NULL);
}

static void test_the_binary_form_tells_the_source_or_is_refused(void **state)
{
#define V2(...) V2_SIGNATURE __VA_ARGS__, sizeof(V2_SIGNATURE __VA_ARGS__) - 1
        static const char v4[] = "\x21\x11\0\x0c\xc6\x33\x64\x07\x0a\0\0\1\xdc\x04\x01\xbb";
        static const char mapped[] = "\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\xc6\x33\x64\x07"
                                     "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\1\1\2\2";
        char whole[64];

        (void)state;
        memcpy(whole, V2_SIGNATURE, 12);
        memcpy(whole + 12, v4, sizeof(v4));
        check_header(whole, 28, PROXY_HEADER_WHOLE, "198.51.100.7");
        memcpy(whole + 12, mapped, sizeof(mapped));
        check_header(whole, 52, PROXY_HEADER_WHOLE, "198.51.100.7");
        check_header(V2("\x21\x11\0\x0f\xc6\x33\x64\x07\x0a\0\0\1\1\1\2\2\x04\0\0"), PROXY_HEADER_WHOLE,
                     "198.51.100.7");
        check_header(V2("\x20\0\0\0"), PROXY_HEADER_WHOLE, "unknown");       /* LOCAL */
        check_header(V2("\x21\x31\0\1x"), PROXY_HEADER_WHOLE, "unknown");    /* a UNIX socket */
        check_header(V2("\x21\x11\0\4\1\1\1\1"), PROXY_HEADER_BROKEN, NULL); /* too short for its family */
        check_header(V2("\x22\x11\0\x0c"), PROXY_HEADER_BROKEN, NULL);       /* no such command */
        check_header(V2("\x11\x11\0\x0c"), PROXY_HEADER_BROKEN, NULL);       /* no such version */
        check_header(V2("\x21\x11\xff\xff"), PROXY_HEADER_BROKEN, NULL);     /* 64 KiB */
        check_header("\r\n\r\n\0\r\nQUIT!", 12, PROXY_HEADER_NONE, NULL);
#undef V2
}

/* The server. */

struct house {
        uv_loop_t loop;
        uv_async_t alive; /* the server's own handles keep no loop alive */
        struct http_server *server;
        struct proxies *proxies;
        int port;
};

static void tell_caller(struct http_request *request, void *context)
{
        auto_free char *text = mem_printf("%s of %s", http_address(request), http_site(request));

        (void)context;
        http_answer(request, http_query(request, "fail") ? 500 : 200, "text/plain", text, strlen(text));
}

static void tell_length(struct http_request *request, void *context)
{
        auto_free char *text = NULL;
        size_t length;

        (void)context;
        http_body(request, &length);
        text = mem_printf("%zu", length);
        http_answer(request, 200, "text/plain", text, strlen(text));
}

static const struct http_route ROUTES[] = {
        { .method = "GET", .path = "/caller", .handle = tell_caller },
        { .method = "GET", .path = "/kept", .handle = tell_caller, .cache = "max-age=60" },
        { .method = "POST", .path = "/small", .handle = tell_length },
        { .method = "POST", .path = "/large", .handle = tell_length, .body_bytes = 200000, .any_body = true },
        { .method = NULL },
};

/* Listens on a port that the kernel chose; proxies: who is believed. */
static void open_house(struct house *house, const char *address, const char *proxies, unsigned connections)
{
        struct http_limits limits = { .body_bytes = 1000,
                                      .large_bytes = 200000,
                                      .connections = connections,
                                      .per_address = 3,
                                      .read_ms = 400,
                                      .answer_ms = SECONDS(5) };
        struct err err = { 0 };

        memset(house, 0, sizeof(*house));
        uv_loop_init(&house->loop);
        uv_async_init(&house->loop, &house->alive, NULL);
        assert_int_equal(proxies_parse("TRUSTED_PROXIES", proxies, &house->proxies, NULL), 0);
        limits.proxies = house->proxies;
        for (house->port = 21000 + getpid() % 9000;; house->port++) {
                if (http_server_new(&house->loop, address, house->port, ROUTES, &limits, NULL, &house->server, &err) ==
                    0)
                        break;
                if (strstr(err.message, "in use") == NULL)
                        fail_msg("%s", err.message);
        }
}

static void close_house(struct house *house)
{
        http_server_free(house->server);
        uv_close((uv_handle_t *)&house->alive, NULL);
        uv_run(&house->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&house->loop), 0);
        proxies_free(house->proxies);
}

/* A caller from another of loopback's addresses. */
static int call_from(const struct house *house, const char *from)
{
        struct sockaddr_in source = { .sin_family = AF_INET }, target = { .sin_family = AF_INET };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        inet_pton(AF_INET, from, &source.sin_addr);
        inet_pton(AF_INET, "127.0.0.1", &target.sin_addr);
        target.sin_port = htons((uint16_t)house->port);
        assert_int_equal(bind(fd, (struct sockaddr *)&source, sizeof(source)), 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&target, sizeof(target)), 0);
        return fd;
}

static void say(int fd, const void *bytes, size_t length)
{
        assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), (ssize_t)length);
}

/* The loop goes on for a moment. */
static void let_time_pass(struct house *house, int64_t ms)
{
        for (int64_t until = clock_boot_ms() + ms; clock_boot_ms() < until;)
                uv_run(&house->loop, UV_RUN_NOWAIT);
}

/* All that the server says until it has said what is waited for, or closed: then *text ends with "<closed>". */
static char *hear(struct house *house, int fd, const char *waited_for)
{
        struct buf heard = { 0 };
        int64_t deadline = clock_boot_ms() + PATIENCE;

        buf_add_text(&heard, "");
        while (strstr(heard.data, waited_for) == NULL) {
                char bytes[4096];
                ssize_t length;

                uv_run(&house->loop, UV_RUN_NOWAIT);
                length = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
                if (length > 0)
                        buf_add(&heard, bytes, (size_t)length);
                if (length == 0 || (length < 0 && errno != EAGAIN)) {
                        buf_add_text(&heard, "<closed>");
                        break;
                }
                if (clock_boot_ms() > deadline)
                        fail_msg("\"%s\" was not said, but \"%s\"", waited_for, heard.data);
        }
        return buf_take(&heard);
}

static char *ask(struct house *house, const char *from, const char *before, const char *path, const char *headers)
{
        auto_free char *request =
                mem_printf("%sGET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", before, path, headers);
        int fd = call_from(house, from);
        char *answer;

        say(fd, request, strlen(request));
        answer = hear(house, fd, "<closed>");
        close(fd);
        return answer;
}

static void check_caller(struct house *house, const char *from, const char *before, const char *headers,
                         const char *wanted)
{
        auto_free char *answer = ask(house, from, before, "/caller", headers), *line = mem_printf("\r\n\r\n%s", wanted);

        assert_contains(answer, line);
}

static void test_only_a_proxy_of_ours_is_believed(void **state)
{
        struct house house;

        (void)state;
        open_house(&house, "127.0.0.1", "127.0.1.0/24", 100);
        check_caller(&house, "127.0.1.1", "", "X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7 of 198.51.100.7");
        check_caller(&house, "127.0.1.1", "", "Forwarded: for=198.51.100.7\r\n", "198.51.100.7 of");
        check_caller(&house, "127.0.1.1", "", "x-forwarded-for: 2001:db8::5:6\r\n",
                     "2001:db8::5:6 of 2001:db8::<closed>");
        check_caller(&house, "127.0.1.1", "", "", "127.0.1.1 of");
        check_caller(&house, "127.0.2.1", "", "X-Forwarded-For: 198.51.100.7\r\nForwarded: for=198.51.100.7\r\n",
                     "127.0.2.1 of");
        /* One header in two lines is one list; two headers count where they agree. */
        check_caller(&house, "127.0.1.1", "", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 198.51.100.7\r\n",
                     "198.51.100.7 of");
        check_caller(&house, "127.0.1.1", "", "Forwarded: for=\"\r\nForwarded: for=198.51.100.7\r\n",
                     "198.51.100.7 of");
        check_caller(&house, "127.0.1.1", "", "X-Forwarded-For: 198.51.100.7\r\nForwarded: for=198.51.100.7\r\n",
                     "198.51.100.7 of");
        check_caller(&house, "127.0.1.1", "", "X-Forwarded-For: 198.51.100.7\r\nForwarded: for=1.1.1.1\r\n",
                     "127.0.1.1 of");
        close_house(&house);
}

static void test_the_proxy_protocol_is_heard_from_a_proxy_of_ours_only(void **state)
{
        static const char told[] = "PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\n";
        struct house house;
        char *answer;

        (void)state;
        open_house(&house, "127.0.0.1", "127.0.1.0/24", 100);
        check_caller(&house, "127.0.1.1", told, "", "198.51.100.7 of");
        /* The one it speaks for is a stranger: what that one writes is not believed. */
        check_caller(&house, "127.0.1.1", told, "X-Forwarded-For: 1.1.1.1\r\n", "198.51.100.7 of");
        check_caller(&house, "127.0.1.1", "PROXY TCP4 127.0.1.9 127.0.0.1 4711 80\r\n", "X-Forwarded-For: 1.1.1.1\r\n",
                     "1.1.1.1 of");
        check_caller(&house, "127.0.1.1", "PROXY UNKNOWN\r\n", "", "127.0.1.1 of");
        answer = ask(&house, "127.0.2.1", told, "/caller", "");
        assert_lacks(answer, "200 OK");
        free(answer);
        answer = ask(&house, "127.0.1.1", "PROXY TCP4 x y 1 2\r\n", "/caller", "");
        assert_string_equal(answer, "<closed>");
        free(answer);
        answer = ask(&house, "127.0.1.1", "PROXY TCP4 198.51.100.7 127.0.0.1 1 2\r\nPROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
                     "/caller", "");
        assert_lacks(answer, "200 OK");
        free(answer);
        close_house(&house);
}

static void test_a_proxys_header_may_come_in_pieces_but_not_for_ever(void **state)
{
        static const char told[] =
                "PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\nGET /caller HTTP/1.1\r\nHost: x\r\n\r\n";
        struct house house;
        int64_t began;
        char *answer;
        int fd, silent;

        (void)state;
        open_house(&house, "127.0.0.1", "127.0.1.0/24", 100);
        fd = call_from(&house, "127.0.1.1");
        for (size_t i = 0; i < sizeof(told) - 1; i++) {
                say(fd, told + i, 1);
                uv_run(&house.loop, UV_RUN_NOWAIT);
        }
        answer = hear(&house, fd, "198.51.100.7 of");
        assert_lacks(answer, "<closed>");
        free(answer);
        close(fd);
        fd = call_from(&house, "127.0.1.1");
        silent = call_from(&house, "127.0.1.1");
        say(fd, "PROXY ", 6);
        began = clock_boot_ms();
        free(hear(&house, fd, "<closed>"));
        free(hear(&house, silent, "<closed>"));
        assert_true(clock_boot_ms() - began >= 300);
        close(fd);
        close(silent);
        fd = call_from(&house, "127.0.1.1"); /* and one that goes in the middle of it */
        say(fd, "PROXY ", 6);
        let_time_pass(&house, 20);
        close(fd);
        let_time_pass(&house, 20);
        close_house(&house);
}

/* How many of so many connections are still open. */
static int count_open(struct house *house, const char *from, const char *before, int count)
{
        int fds[32], open = 0;

        for (int i = 0; i < count; i++) {
                fds[i] = call_from(house, from);
                say(fds[i], before, strlen(before));
                let_time_pass(house, 5);
        }
        let_time_pass(house, 50);
        for (int i = 0; i < count; i++) {
                char byte;

                open += recv(fds[i], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
        }
        for (int i = 0; i < count; i++)
                close(fds[i]);
        let_time_pass(house, 50);
        return open;
}

static void test_callers_are_limited_and_a_proxy_is_not_one_caller(void **state)
{
        struct house house;

        (void)state;
        open_house(&house, "127.0.0.1", "127.0.1.0/24", 100);
        for (int round = 0; round < 2; round++) { /* room comes back */
                assert_int_equal(count_open(&house, "127.0.2.1", "GET", 8), 3);
                assert_int_equal(count_open(&house, "127.0.1.1", "GET", 8), 8);
                assert_int_equal(count_open(&house, "127.0.1.1", "PROXY TCP4 198.51.100.7 127.0.0.1 1 2\r\nG", 8), 3);
        }
        close_house(&house);
}

static void test_who_finds_the_house_full_waits_at_the_door(void **state)
{
        struct house house;
        char *answer;
        int held[2], fd;

        (void)state;
        open_house(&house, "127.0.0.1", "127.0.1.0/24", 2);
        held[0] = call_from(&house, "127.0.2.1");
        held[1] = call_from(&house, "127.0.1.1"); /* a guest that says nothing takes a place, too */
        let_time_pass(&house, 20);
        fd = call_from(&house, "127.0.2.2");
        say(fd, "GET /caller HTTP/1.1\r\nHost: x\r\n\r\n", 33);
        let_time_pass(&house, 100);
        assert_int_equal(recv(fd, &(char){ 0 }, 1, MSG_DONTWAIT), -1);
        close(held[0]);
        answer = hear(&house, fd, "127.0.2.2 of");
        assert_contains(answer, "200 OK");
        free(answer);
        close(held[1]);
        close(fd);
        close_house(&house);
}

static void test_an_address_through_both_protocols_is_one(void **state)
{
        struct house house;

        (void)state;
        open_house(&house, "::", "127.0.1.1", 100);
        check_caller(&house, "127.0.2.1", "", "", "127.0.2.1 of 127.0.2.1");
        check_caller(&house, "127.0.1.1", "", "X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7 of");
        close_house(&house);
}

static void check_post(struct house *house, const char *path, const char *type, int length, const char *wanted)
{
        auto_free char *head = mem_printf("POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: %s\r\n"
                                          "Content-Length: %d\r\n\r\n",
                                          path, type, length);
        auto_free char *body = mem_alloc((size_t)length, 1), *answer = NULL;
        int fd = call_from(house, "127.0.0.1");

        memset(body, 'x', (size_t)length);
        say(fd, head, strlen(head));
        for (int sent = 0; sent < length; sent += 10000) {
                (void)send(fd, body + sent, (size_t)MIN(10000, length - sent), MSG_NOSIGNAL);
                let_time_pass(house, 2);
        }
        answer = hear(house, fd, "<closed>");
        close(fd);
        assert_contains(answer, wanted);
}

static void test_a_route_says_how_large_a_body_and_of_which_type(void **state)
{
        struct house house;

        (void)state;
        open_house(&house, "127.0.0.1", NULL, 100);
        check_post(&house, "/small", "application/json", 1000, "\r\n\r\n1000");
        check_post(&house, "/small", "application/json", 1001, "413");
        check_post(&house, "/small", "text/plain", 10, "415");
        check_post(&house, "/large", "text/plain", 200000, "\r\n\r\n200000");
        check_post(&house, "/large", "text/plain", 200001, "413");
        check_post(&house, "/missing", "text/plain", 1001, "404");
        close_house(&house);
}

static void test_a_route_says_who_may_keep_its_good_answers(void **state)
{
        struct house house;
        char *answer;

        (void)state;
        open_house(&house, "127.0.0.1", NULL, 100);
        answer = ask(&house, "127.0.0.1", "", "/kept", "");
        assert_contains(answer, "Cache-Control: max-age=60\r\n");
        free(answer);
        answer = ask(&house, "127.0.0.1", "", "/kept?fail", "");
        assert_contains(answer, "Cache-Control: no-store\r\n");
        free(answer);
        answer = ask(&house, "127.0.0.1", "", "/caller", "");
        assert_contains(answer, "Cache-Control: no-store\r\n");
        free(answer);
        close_house(&house);
}

static void test_a_server_that_drains_serves_on_and_keeps_nobody(void **state)
{
        static const char request[] = "GET /caller HTTP/1.1\r\nHost: x\r\n\r\n";
        struct house house;
        char *answer;
        int kept, late;

        (void)state;
        open_house(&house, "127.0.0.1", NULL, 100);
        kept = call_from(&house, "127.0.0.1");
        say(kept, request, sizeof(request) - 1);
        answer = hear(&house, kept, "127.0.0.1 of");
        assert_lacks(answer, "Connection: close");
        free(answer);
        http_server_drain(house.server);
        say(kept, request, sizeof(request) - 1);
        answer = hear(&house, kept, "<closed>");
        assert_contains(answer, "200 OK");
        assert_contains(answer, "Connection: close");
        free(answer);
        close(kept);
        check_caller(&house, "127.0.0.1", "", "", "127.0.0.1 of");
        late = call_from(&house, "127.0.0.1"); /* greeted by the kernel, not yet by us */
        say(late, request, sizeof(request) - 1);
        http_server_stop_listening(house.server);
        answer = hear(&house, late, "<closed>");
        assert_contains(answer, "503");
        assert_contains(answer, "Retry-After: 2");
        free(answer);
        close(late);
        close_house(&house);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_the_last_hop_that_is_not_ours_counts_in_x_forwarded_for),
                SENTENCE(test_the_last_hop_that_is_not_ours_counts_in_forwarded),
                SENTENCE(test_a_thousand_hops_are_read_to_the_last),
                SENTENCE(test_proxies_are_addresses_and_ranges_or_refused_by_name),
                SENTENCE(test_a_range_ends_at_its_last_bit),
                SENTENCE(test_the_text_form_tells_the_source_or_is_refused),
                SENTENCE(test_the_binary_form_tells_the_source_or_is_refused),
                SENTENCE(test_only_a_proxy_of_ours_is_believed),
                SENTENCE(test_the_proxy_protocol_is_heard_from_a_proxy_of_ours_only),
                SENTENCE(test_a_proxys_header_may_come_in_pieces_but_not_for_ever),
                SENTENCE(test_callers_are_limited_and_a_proxy_is_not_one_caller),
                SENTENCE(test_who_finds_the_house_full_waits_at_the_door),
                SENTENCE(test_an_address_through_both_protocols_is_one),
                SENTENCE(test_a_route_says_how_large_a_body_and_of_which_type),
                SENTENCE(test_a_route_says_who_may_keep_its_good_answers),
                SENTENCE(test_a_server_that_drains_serves_on_and_keeps_nobody),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
