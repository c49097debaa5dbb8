/* What dump.c (pg_dump into a file that counts) and dump_list.c (the file read back through pg_restore --list) share.
 * For nobody else. */
#pragma once

#include "common/base/blocking.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/dump_file.h"

#define DUMP_MAGIC  0x64756d70
#define READ_BYTES  65536
#define ERROR_BYTES 600

/* One run of pg_dump, then one of pg_restore --list. Its own life: it ends when processes, pipes and the call to the
 * disk have ended, though its saga was let go before. */
struct dump {
        unsigned magic;
        struct saga *saga; /* NULL once abandoned, and with it the activity */
        struct activity *activity;
        struct blocking *disk;
        struct dump_file *file;
        const char *kind;
        char **environment; /* where pg_dump connects to */
        uv_process_t process;
        uv_pipe_t in, out, errors;
        int under_way; /* handles of the running stage that are not closed, and its call to the disk */
        int64_t exit_status;
        bool running, listing, in_open;
        struct err failed;
        char read_buffer[READ_BYTES], error_text[ERROR_BYTES];
        size_t read_length, error_length;
        uv_write_t write;
        int objects;
        bool at_line_start, comment_line;
        char *checksum;
        int64_t bytes;
        /* The call to the disk: run and disk_failed, piece and piece_length belong to its thread until it has ended. */
        void (*run)(struct dump *dump), (*ended)(struct dump *dump);
        struct err disk_failed;
        const unsigned char *piece;
        ssize_t piece_length;
};

/* Runs on a worker thread, then ended on the loop. */
void dump_call_disk(struct dump *dump, void (*run)(struct dump *dump), void (*ended)(struct dump *dump));
/* Somebody waits for it, and nothing has failed. */
bool dump_is_wanted(const struct dump *dump);
/* Starts the stage's process with its pipes; on_bytes gets what it says. Returns 0, or an error where it does not run:
 * then the stage ends by itself. */
int dump_spawn(struct dump *dump, char **arguments, uv_read_cb on_bytes);
/* One of those under way has ended; the last one ends the stage. */
void dump_one_less(struct dump *dump);
void dump_close_pipe(uv_pipe_t *pipe);
/* There is no next stage: the file gets its name, or goes. */
void dump_finish(struct dump *dump);

/* dump_list.c: reads the complete file back to its end, and has pg_restore list it. */
void dump_start_listing(struct dump *dump);
