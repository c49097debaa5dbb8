/* Reads back a complete dump: see dump_private.h. It counts only if every piece of it can be decrypted, and pg_restore
 * finds something in it. */
#include "services/provisioner/dump_private.h"

#define PIECES_A_CALL 32 /* of 64 KiB, once pg_restore has read enough: an abort is noticed between calls */

static void list_read_on(struct dump *dump);

/* Each line that is not a comment is one object of the dump. */
static void list_on_bytes(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
        struct dump *dump = stream->data;

        if (length < 0) {
                dump_close_pipe(&dump->out);
                return;
        }
        for (ssize_t i = 0; i < length; i++) {
                if (dump->at_line_start)
                        dump->comment_line = buffer->base[i] == ';';
                dump->at_line_start = buffer->base[i] == '\n';
                dump->objects += dump->at_line_start && !dump->comment_line;
        }
}

static void list_on_written(uv_write_t *write, int status)
{
        struct dump *dump = write->data;

        /* pg_restore --list needs only the beginning and may close its input; the rest is still decrypted, to prove
         * that it can be. */
        dump->in_open = dump->in_open && status == 0;
        list_read_on(dump);
}

static void list_piece_read(struct dump *dump)
{
        uv_buf_t buffer;

        if (dump->piece_length <= 0 || !dump_is_wanted(dump)) {
                dump_close_pipe(&dump->in);
        } else if (!dump->in_open) {
                list_read_on(dump);
        } else {
                buffer = uv_buf_init((char *)(uintptr_t)dump->piece, (unsigned)dump->piece_length);
                dump->write.data = dump;
                if (uv_write(&dump->write, (uv_stream_t *)&dump->in, &buffer, 1, list_on_written) < 0) {
                        dump->in_open = false;
                        list_read_on(dump);
                }
        }
        dump_one_less(dump);
}

static void list_read_piece(struct dump *dump)
{
        dump->piece_length = dump_file_next(dump->file, &dump->piece, &dump->disk_failed);
}

static void list_read_pieces(struct dump *dump)
{
        for (int i = 0; i < PIECES_A_CALL && (i == 0 || dump->piece_length > 0); i++)
                list_read_piece(dump);
}

static void list_read_on(struct dump *dump)
{
        dump->under_way++;
        dump_call_disk(dump, dump->in_open ? list_read_piece : list_read_pieces, list_piece_read);
}

void dump_start_listing(struct dump *dump)
{
        char *arguments[] = { "pg_restore", "--list", NULL };

        if (dump_file_unlock(dump->file, dump->activity->provisioner->control_keys, &dump->failed) < 0) {
                dump_finish(dump);
                return;
        }
        dump->listing = true;
        dump->in_open = true;
        dump->at_line_start = true;
        if (dump_spawn(dump, arguments, list_on_bytes) == 0)
                list_read_on(dump);
}
