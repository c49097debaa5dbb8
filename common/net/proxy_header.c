/* The PROXY protocol's header, versions 1 (text) and 2 (binary): see proxies.h. */
#include "common/net/proxies.h"

#include <string.h>

#define V1_LIMIT 107 /* including the line end, as the protocol says */
#define V2_FIXED 16

static const unsigned char V1[6] = "PROXY ";
static const unsigned char V2[12] = "\r\n\r\n\0\r\nQUIT\n";

/* Whether the bytes begin with this signature: all of it, part of it so far, or something else. */
static enum proxy_header_state proxy_header_look_for(const unsigned char *signature, size_t size,
                                                     const unsigned char *bytes, size_t length)
{
        if (memcmp(bytes, signature, MIN(length, size)) != 0)
                return PROXY_HEADER_NONE;
        return length < size ? PROXY_HEADER_MORE : PROXY_HEADER_WHOLE;
}

/* "PROXY TCP4 SOURCE DESTINATION SOURCEPORT DESTINATIONPORT\r\n", or "PROXY UNKNOWN ...\r\n". */
static enum proxy_header_state proxy_header_read_v1(const unsigned char *bytes, size_t length, struct proxy_header *ret)
{
        const unsigned char *end = memmem(bytes, MIN(length, V1_LIMIT), "\r\n", 2);
        const char *text = (const char *)bytes + sizeof(V1), *space;
        size_t rest;

        if (end == NULL)
                return length < V1_LIMIT ? PROXY_HEADER_MORE : PROXY_HEADER_BROKEN;
        ret->length = (size_t)(end - bytes) + 2;
        rest = (size_t)(end - bytes) - sizeof(V1);
        if (rest >= 7 && memcmp(text, "UNKNOWN", 7) == 0)
                return PROXY_HEADER_WHOLE;
        if (rest < 5 || (memcmp(text, "TCP4 ", 5) != 0 && memcmp(text, "TCP6 ", 5) != 0))
                return PROXY_HEADER_BROKEN;
        space = memchr(text + 5, ' ', rest - 5);
        if (space == NULL || !address_parse(text + 5, (size_t)(space - text) - 5, &ret->source))
                return PROXY_HEADER_BROKEN;
        return PROXY_HEADER_WHOLE;
}

static enum proxy_header_state proxy_header_read_v2(const unsigned char *bytes, size_t length, struct proxy_header *ret)
{
        struct sockaddr_storage socket;
        struct address source = { 0 };
        size_t more, size;

        if (length < V2_FIXED)
                return PROXY_HEADER_MORE;
        more = (size_t)bytes[14] << 8 | bytes[15];
        if ((bytes[12] & 0xf0) != 0x20 || (bytes[12] & 0x0f) > 1 || V2_FIXED + more > PROXY_HEADER_LIMIT)
                return PROXY_HEADER_BROKEN;
        if (length < V2_FIXED + more)
                return PROXY_HEADER_MORE;
        ret->length = V2_FIXED + more;
        source.family = bytes[13] == 0x11 ? AF_INET : bytes[13] == 0x21 ? AF_INET6 : 0;
        if ((bytes[12] & 0x0f) == 0 || source.family == 0) /* the proxy's own health check, or not TCP over IP */
                return PROXY_HEADER_WHOLE;
        size = source.family == AF_INET ? 4 : 16;
        if (more < 2 * size + 4)
                return PROXY_HEADER_BROKEN;
        memcpy(source.bytes, bytes + V2_FIXED, size);
        address_to_socket(&source, &socket);
        ret->source = address_of((struct sockaddr *)&socket); /* an IPv4 address in IPv6 is the IPv4 address */
        return PROXY_HEADER_WHOLE;
}

enum proxy_header_state proxy_header_read(const unsigned char *bytes, size_t length, struct proxy_header *ret)
{
        enum proxy_header_state v1 = proxy_header_look_for(V1, sizeof(V1), bytes, length);
        enum proxy_header_state v2 = proxy_header_look_for(V2, sizeof(V2), bytes, length);

        memset(ret, 0, sizeof(*ret));
        if (v1 == PROXY_HEADER_WHOLE)
                return proxy_header_read_v1(bytes, length, ret);
        if (v2 == PROXY_HEADER_WHOLE)
                return proxy_header_read_v2(bytes, length, ret);
        return v1 == PROXY_HEADER_MORE || v2 == PROXY_HEADER_MORE ? PROXY_HEADER_MORE : PROXY_HEADER_NONE;
}
