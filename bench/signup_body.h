/* A valid signup of exactly 1 KiB; sixteen hexadecimal digits, in three places, make each one unique. */
#pragma once

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define BODY_BYTES    1024
#define UNIQUE_DIGITS 16

struct signup_body {
        char text[BODY_BYTES + 1];
        size_t unique[3];
};

static inline void body_mark(struct signup_body *body, size_t *length, size_t which)
{
        body->unique[which] = *length;
        *length += (size_t)sprintf(body->text + *length, "%0*d", UNIQUE_DIGITS, 0);
}

static inline void body_add(struct signup_body *body, size_t *length, const char *text)
{
        *length += (size_t)sprintf(body->text + *length, "%s", text);
}

static inline void body_repeat(struct signup_body *body, size_t *length, const char *text, int times)
{
        while (times-- > 0)
                body_add(body, length, text);
}

/* Long values, up to what the contract takes; the name is in another script, for those are signups too. */
static inline void body_make(struct signup_body *body)
{
        static const char tail[] = "\",\"plan\":\"starter\",\"region\":\"eu-west-1\"}";
        size_t n = 0;

        body_add(body, &n, "{\"company\":\"Bench Pharmacy ");
        body_mark(body, &n, 0);
        body_repeat(body, &n, " and Daughters", 12);
        body_add(body, &n, "\",\"email\":\"owner.");
        body_mark(body, &n, 1);
        body_add(body, &n, "@");
        body_repeat(body, &n, "a-chain-of-pharmacies-along-the-river-and-the-coast.", 4);
        body_add(body, &n, "example\",\"subdomain\":\"bench-");
        body_mark(body, &n, 2);
        body_add(body, &n, "\",\"name\":\"");
        while (n + 3 + strlen(tail) <= BODY_BYTES)
                body_add(body, &n, "\xe8\x8d\xaf");
        while (n + strlen(tail) < BODY_BYTES)
                body_add(body, &n, "x");
        body_add(body, &n, tail);
        assert(n == BODY_BYTES);
}

static inline void body_number(const struct signup_body *body, char *text, uint64_t number)
{
        char digits[UNIQUE_DIGITS + 1];

        snprintf(digits, sizeof(digits), "%016llx", (unsigned long long)number);
        for (size_t i = 0; i < 3; i++)
                memcpy(text + body->unique[i], digits, UNIQUE_DIGITS);
}

/* Writes a whole request; head_limit: of what comes before the body. Returns its length. */
static inline size_t body_request(const struct signup_body *body, char *text, size_t head_limit, const char *token,
                                  uint64_t number)
{
        static const char head[] = "POST /api/signups HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"
                                   "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n";
        size_t length = (size_t)snprintf(text, head_limit, head, token, BODY_BYTES);

        memcpy(text + length, body->text, BODY_BYTES);
        body_number(body, text + length, number);
        return length + BODY_BYTES;
}
