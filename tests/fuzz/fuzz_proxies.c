/* What proxies say. However a stranger begins a header, the hop that our proxy appends decides who counts: it, or the
 * proxy itself where it cannot be read; never an address of the stranger's choice. */
#include "tests/fuzz/fuzz.h"

#include "common/base/memory.h"
#include "common/net/proxies.h"

#define CALLER "198.51.100.7"

static struct proxies *ours;
static struct address peer, caller;

static void append(void (*add)(struct proxy_chain *chain, const char *line), const char *begun, const char *hop,
                   bool readable)
{
        auto_free char *line = mem_printf("%s, %s", begun, hop);
        struct proxy_chain chain = { .proxies = ours };
        struct address found;

        add(&chain, line);
        found = proxy_chain_caller(&chain, &peer);
        MUST(address_equal(&found, &caller) || (!readable && address_equal(&found, &peer)));
}

static void read_header(const uint8_t *bytes, size_t length)
{
        unsigned char *exact = mem_alloc(length + 1, 1); /* so that a byte too far is seen */
        struct proxy_header header, again;
        enum proxy_header_state state;

        exact = mem_resize(exact, length ? length : 1);
        memcpy(exact, bytes, length);
        state = proxy_header_read(exact, length, &header);
        MUST(state != PROXY_HEADER_WHOLE || (header.length > 0 && header.length <= length));
        MUST(state != PROXY_HEADER_MORE || length < PROXY_HEADER_LIMIT);
        if (state == PROXY_HEADER_WHOLE)
                MUST(proxy_header_read(exact, header.length - 1, &again) == PROXY_HEADER_MORE);
        free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
        char *text = mem_copy_bytes(bytes, length);
        struct proxies *given = NULL;
        struct err err;

        if (ours == NULL) {
                MUST(proxies_parse("OURS", "10.0.0.0/8", &ours, NULL) == 0);
                MUST(address_parse("10.0.0.1", 8, &peer) && address_parse(CALLER, strlen(CALLER), &caller));
        }
        append(proxy_chain_add_x_forwarded_for, text, CALLER, true);
        append(proxy_chain_add_x_forwarded_for, text, CALLER ":80, 10.1.1.1", true);
        append(proxy_chain_add_forwarded, text, "for=" CALLER, false);
        append(proxy_chain_add_forwarded, text, "for=\"" CALLER ":80\";by=\"10.0.0.1\", for=10.2.2.2", false);
        read_header(bytes, length);
        if (proxies_parse("PROXIES", text, &given, &err) < 0)
                MUST(err.class == ERR_INPUT && strcmp(err.field, "PROXIES") == 0);
        else
                proxies_free(given);
        free(text);
        return 0;
}
