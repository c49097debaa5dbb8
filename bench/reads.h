/* GETs of many paths, one after the other and again from the first; with the tag that the answer before had, if that is
 * wanted. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READS_PATH_LIMIT 200
#define READS_TAG_LIMIT  80

struct read_path {
        char path[READS_PATH_LIMIT];
        char tag[READS_TAG_LIMIT]; /* empty until it is known */
};

struct reads {
        struct read_path *paths;
        size_t count, next;
        bool with_tags;
};

/* One path a line. False if there is none, or no memory. */
static inline bool reads_load(struct reads *reads, const char *name)
{
        FILE *file = fopen(name, "r");
        char line[READS_PATH_LIMIT];
        size_t room = 0;

        while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
                if (reads->count == room) {
                        room = room ? 2 * room : 1024;
                        reads->paths = realloc(reads->paths, room * sizeof(*reads->paths));
                        if (reads->paths == NULL)
                                return false;
                }
                line[strcspn(line, "\r\n")] = '\0';
                strcpy(reads->paths[reads->count].path, line);
                reads->paths[reads->count++].tag[0] = '\0';
        }
        if (file != NULL)
                fclose(file);
        return reads->count > 0;
}

/* Writes a whole request, and says of which path it is. Returns its length. */
static inline size_t reads_request(struct reads *reads, char *text, size_t limit, const char *token, size_t *ret_path)
{
        const struct read_path *path;
        bool tagged;

        *ret_path = reads->next;
        reads->next = (reads->next + 1) % reads->count;
        path = &reads->paths[*ret_path];
        tagged = reads->with_tags && path->tag[0] != '\0';
        return (size_t)snprintf(
                text, limit, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n%s%s%s\r\n", path->path,
                token, tagged ? "If-None-Match: " : "", tagged ? path->tag : "", tagged ? "\r\n" : "");
}

/* Keeps the tag of a whole answer, which ends with a zero. */
static inline void reads_remember(struct reads *reads, size_t path, const char *answer)
{
        const char *tag = reads->with_tags ? strcasestr(answer, "\r\nETag: ") : NULL;
        size_t length = tag == NULL ? 0 : strcspn(tag + 8, "\r\n");

        if (length > 0 && length < READS_TAG_LIMIT) {
                memcpy(reads->paths[path].tag, tag + 8, length);
                reads->paths[path].tag[length] = '\0';
        }
}
