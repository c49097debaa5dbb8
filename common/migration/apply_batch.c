/* Files that run in a transaction each, many in one round trip: over a network, round trips dominate. */
#include "common/base/failpoint.h"
#include "common/migration/apply_private.h"

#include <string.h>

#define BATCH_BYTES (1024 * 1024)

static void batch_rolled_back(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        (void)err; /* the first error is the one reported */
        migration_finish(job, &job->failed);
}

/* The file of the batch to which the byte at this offset of the script belongs. */
static size_t batch_file_at(const struct migration_job *job, size_t offset)
{
        size_t file = job->next;

        while (file + 1 < job->batch_end && job->parts[file + 1 - job->next].begin <= offset)
                file++;
        return file;
}

/* Where in the file's own SQL the byte of the script is (an unexpected end is reported at the semicolon that we add);
 * NULL if it is in what we put around it. */
static const char *batch_own_sql(const struct migration_job *job, size_t file, size_t offset)
{
        const struct migration_part *part = &job->parts[file - job->next];
        const char *sql = migration_section(job, &job->set->items[file])->sql;
        size_t length = strlen(sql);

        if (offset < part->sql || offset >= part->sql + length + strlen(MIGRATION_SEMICOLON))
                return NULL;
        return sql + MIN(offset - part->sql, length);
}

static void batch_name_failure(struct migration_job *job, size_t file, size_t offset, const struct err *err)
{
        const char *sql = batch_own_sql(job, file, offset);
        const struct migration *m = strcmp(err->code, "TN409") == 0 ? NULL : &job->set->items[file];

        migration_name_failure(job, err, m, sql);
        if (sql == NULL && strcmp(err->code, "23505") == 0)
                job->failed.class = ERR_BUSY; /* another attempt has applied it between our check and our turn */
}

/* A script is parsed as a whole: if that fails, none of it was executed, and the files before the bad one are applied
 * first. Otherwise they have been applied, each in its own transaction. */
static void batch_failed(struct migration_job *job, const struct err *err)
{
        struct pg_failure failure = pg_failure(job->conn);
        size_t offset, file;
        bool is_told;

        if (!pg_is_usable(job->conn)) {
                migration_finish(job, err);
                return;
        }
        offset = migration_failure_offset(job, &failure);
        file = batch_file_at(job, offset);
        is_told = failure.statements > 0 || failure.position > 0;
        if (!job->options.rehearse && failure.statements == 0 &&
            (is_told ? file > job->next : job->batch_end > job->next + 1)) {
                job->suspect = MAX(file, job->next + 1);
                migration_apply_pending(job);
                return;
        }
        batch_name_failure(job, file, offset, err);
        job->next = file;
        pg_script(job->conn, MIGRATION_READ_TIMEOUT, "rollback", batch_rolled_back, job);
}

static void batch_applied(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        if (err != NULL) {
                batch_failed(job, err);
                return;
        }
        if (job->options.rehearse) {
                migration_finish(job, NULL);
                return;
        }
        FAILPOINT(migration_after_apply, NULL);
        job->next = job->batch_end;
        migration_apply_pending(job);
}

static void batch_begin(struct migration_job *job, struct buf *sql)
{
        buf_add_text(sql, "begin;\n");
        migration_add_timeouts(job, sql, "local");
        buf_add_text(sql, "do $tenantry$ begin ");
        migration_add_fence(job, sql);
        buf_add_text(sql, "end $tenantry$;\n");
}

/* A rehearsal is one transaction for all files: the later ones need what the earlier ones do. */
static void batch_add_file(struct migration_job *job, const struct migration *m)
{
        struct migration_part *part = &job->parts[job->batch_end++ - job->next];
        bool last = job->batch_end == job->set->count, one = job->options.rehearse;
        struct buf *sql = &job->script;

        part->begin = sql->length;
        if (!one || job->batch_end == 1)
                batch_begin(job, sql);
        migration_add_ledger_rows(job, sql, m); /* before the DDL: two concurrent attempts collide here, not halfway */
        part->sql = sql->length;
        if (!job->options.mark)
                buf_add_text(sql, migration_section(job, m)->sql);
        buf_add_text(sql, MIGRATION_SEMICOLON);
        buf_add_text(sql, MIGRATION_KEEP_LEDGER);
        if (!one || last) {
                buf_add_text(sql, one ? "rollback;\n" : "commit;\n");
                buf_add_text(sql, MIGRATION_CLEAN_SESSION);
        }
}

static bool batch_is_full(const struct migration_job *job)
{
        if (job->options.rehearse)
                return false;
        return job->batch_end - job->next == MIGRATION_BATCH_FILES || job->script.length > BATCH_BYTES ||
               job->batch_end == job->suspect;
}

void migration_apply_batch(struct migration_job *job)
{
        const struct migration_set *set = job->set;

        job->batch_end = job->next;
        buf_reset(&job->script);
        do
                batch_add_file(job, &set->items[job->batch_end]);
        while (job->batch_end < set->count &&
               (job->options.mark || migration_section(job, &set->items[job->batch_end])->transaction) &&
               !batch_is_full(job));
        pg_script(job->conn, migration_statement_timeout(job) * (int64_t)(job->batch_end - job->next), job->script.data,
                  batch_applied, job);
}
