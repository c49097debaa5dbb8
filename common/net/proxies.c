/* Trusted proxies, and the headers they write: see proxies.h. */
#include "common/net/proxies.h"

#include "common/base/memory.h"

#include <ctype.h>
#include <string.h>

#define RANGE_LIMIT 1000
#define TOKEN       "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define VALUE       TOKEN ":[]" /* which should be quoted, and often are not */

struct range {
        struct address network;
        unsigned bits;
};

struct proxies {
        struct range ranges[RANGE_LIMIT];
        size_t count;
};

/* "10.0.0.0/8", or an address alone. Bits beyond the mask are a mistake: nobody knows which part was meant. */
static bool proxies_parse_range(const char *text, struct range *range)
{
        const char *slash = strchrnul(text, '/');
        unsigned most;
        char *end = NULL;

        if (!address_parse(text, (size_t)(slash - text), &range->network))
                return false;
        most = range->network.family == AF_INET ? 32 : 128;
        range->bits = most;
        if (*slash == '\0')
                return true;
        range->bits = isdigit((unsigned char)slash[1]) ? (unsigned)strtoul(slash + 1, &end, 10) : most + 1;
        if (range->bits > most || *end != '\0')
                return false;
        for (unsigned bit = range->bits; bit < most; bit++)
                if (range->network.bytes[bit / 8] & (0x80 >> bit % 8))
                        return false;
        return true;
}

int proxies_parse(const char *name, const char *text, struct proxies **ret, struct err *err)
{
        struct proxies *proxies = NEW(struct proxies);
        auto_free char *copy = mem_copy_text(text ? text : "");
        char *rest = copy, *word;

        while ((word = strsep(&rest, ", \t\r\n")) != NULL) {
                int rc = 0;

                if (*word == '\0')
                        continue;
                if (proxies->count == RANGE_LIMIT)
                        rc = err_field(err, name, "%s has more than %d entries", name, RANGE_LIMIT);
                else if (!proxies_parse_range(word, &proxies->ranges[proxies->count]))
                        rc = err_field(err, name, "%s: \"%.60s\" is neither an address nor a range such as 10.0.0.0/8",
                                       name, word);
                if (rc < 0) {
                        proxies_free(proxies);
                        return rc;
                }
                proxies->count++;
        }
        *ret = proxies;
        return 0;
}

void proxies_free(struct proxies *proxies)
{
        free(proxies);
}

bool proxies_believe(const struct proxies *proxies, const struct address *address)
{
        for (size_t i = 0; proxies != NULL && i < proxies->count; i++)
                if (address_within(address, &proxies->ranges[i].network, proxies->ranges[i].bits))
                        return true;
        return false;
}

/* address: NULL if the hop has none that we can read. */
static void proxy_chain_add_hop(struct proxy_chain *chain, const struct address *address)
{
        if (address == NULL) {
                chain->wanted = chain->known = true;
        } else if (chain->wanted || !chain->known || !proxies_believe(chain->proxies, address)) {
                chain->found = *address;
                chain->wanted = false;
                chain->known = true;
        }
}

struct address proxy_chain_caller(const struct proxy_chain *chain, const struct address *peer)
{
        return chain->known && !chain->wanted ? chain->found : *peer;
}

static bool proxies_is_port(const char *text, size_t length)
{
        bool good = length >= 2 && length <= 6 && text[0] == ':';

        for (size_t i = 1; good && i < length; i++)
                good = isdigit((unsigned char)text[i]);
        return length == 0 || good;
}

/* "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80". */
static bool proxies_parse_node(const char *text, size_t length, struct address *ret)
{
        const char *end = text + length, *close = memchr(text, ']', length), *colon = memchr(text, ':', length);

        if (length > 0 && text[0] == '[')
                return close != NULL && address_parse(text + 1, (size_t)(close - text) - 1, ret) &&
                       memchr(text, ':', (size_t)(close - text)) &&
                       proxies_is_port(close + 1, (size_t)(end - close) - 1);
        if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon) - 1) == NULL)
                return address_parse(text, (size_t)(colon - text), ret) &&
                       proxies_is_port(colon, (size_t)(end - colon));
        return address_parse(text, length, ret);
}

static void proxy_chain_add_node(struct proxy_chain *chain, const char *text, size_t length)
{
        struct address address;

        proxy_chain_add_hop(chain, proxies_parse_node(text, length, &address) ? &address : NULL);
}

void proxy_chain_add_x_forwarded_for(struct proxy_chain *chain, const char *line)
{
        while (*line != '\0') {
                size_t length = strcspn(line, ","), before = MIN(strspn(line, " \t"), length), after = length;

                while (after > before && strchr(" \t", line[after - 1]) != NULL)
                        after--;
                if (after > before)
                        proxy_chain_add_node(chain, line + before, after - before);
                line += length + (line[length] == ',');
        }
}

/* Copies the value at *text, a token or a quoted string, to out; moves *text past it. False if it is neither. */
static bool proxies_read_value(const char **text, char out[ADDRESS_TEXT + 16])
{
        const char *p = *text;
        size_t length = 0;
        bool quoted = *p == '"';

        for (p += quoted; quoted ? *p != '"' : *p != '\0' && strchr(VALUE, *p) != NULL; p++) {
                if (quoted && *p == '\\')
                        p++;
                if (*p == '\0')
                        return false;
                if (length < ADDRESS_TEXT + 15)
                        out[length++] = *p;
        }
        out[length] = '\0';
        *text = p + quoted;
        return quoted || length > 0;
}

/* One hop, "for=1.2.3.4;proto=https": moves *text past it. A hop that cannot be read has no address. Nothing is read
 * after a misplaced quotation mark: an untrusted client may have opened it to swallow what our proxy wrote. */
static void proxy_chain_add_element(struct proxy_chain *chain, const char **text)
{
        char value[ADDRESS_TEXT + 16], node[ADDRESS_TEXT + 16] = "";
        const char *p = *text;

        for (;;) {
                const char *name = p + strspn(p, " \t");
                size_t length = strspn(name, TOKEN);

                p = name + length;
                if (length > 0 && *p == '=' && (p++, proxies_read_value(&p, value))) {
                        if (length == 3 && strncasecmp(name, "for", 3) == 0)
                                strcpy(node, value);
                } else if (length > 0) {
                        break;
                }
                p += strspn(p, " \t");
                if (*p != ';')
                        break;
                p++;
        }
        *text = p + strcspn(p, ",\"");
        if (*text == p)
                proxy_chain_add_node(chain, node, strlen(node));
        else
                proxy_chain_add_hop(chain, NULL);
        if (**text == '"') {
                proxy_chain_add_hop(chain, NULL);
                *text += strlen(*text);
        }
}

void proxy_chain_add_forwarded(struct proxy_chain *chain, const char *line)
{
        for (line += strspn(line, ", \t"); *line != '\0'; line += strspn(line, ", \t"))
                proxy_chain_add_element(chain, &line);
}
