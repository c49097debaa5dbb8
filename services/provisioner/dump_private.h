/* Shared by dump.c (pg_dump into a file) and dump_list.c (reading the file back through pg_restore --list), and by
 * nobody else. */
#pragma once

#include "common/base/blocking.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/dump_file.h"

#define DUMP_MAGIC  0x64756d70
#define READ_BYTES  65536
#define ERROR_BYTES 600

/* One run of pg_dump, then one of pg_restore --list. It lives until processes, pipes and the call to the disk have
 * ended, even if its saga was dropped before. */
struct dump {
        unsigned magic;
        struct saga *saga; /* NULL once abandoned, and so is the activity */
        struct activity *activity;
        struct blocking *disk;
        struct dump_file *file;
        const char *kind;
        char **environment; /* the target of pg_dump */
        uv_process_t process;
        uv_pipe_t in, out, errors;
        int under_way; /* open handles of the running stage, plus its call to the disk */
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
/* Whether it is still wanted, and nothing has failed. */
bool dump_is_wanted(const struct dump *dump);
/* Starts the stage's process with its pipes; on_bytes gets its output. Returns 0, or an error if it cannot be started:
 * then the stage ends by itself. */
int dump_spawn(struct dump *dump, char **arguments, uv_read_cb on_bytes);
/* One of the parts under way has ended; the last one ends the stage. */
void dump_one_less(struct dump *dump);
void dump_close_pipe(uv_pipe_t *pipe);
/* There is no next stage: the file gets its final name, or is removed. */
void dump_finish(struct dump *dump);

/* dump_list.c: reads the whole file back, and has pg_restore list it. */
void dump_start_listing(struct dump *dump);
