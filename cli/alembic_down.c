/* Whether a downgrade fits an upgrade: see alembic.h. */
#include "cli/alembic.h"

#include "common/base/memory.h"
#include "common/migration/migration.h"
#include "common/migration/token.h"

#include <string.h>

static bool alembic_has_revision(const struct alembic *alembic, const char *revision)
{
        for (size_t i = 0; i < alembic->revision_count; i++)
                if (strcmp(alembic->revisions[i], revision) == 0)
                        return true;
        return false;
}

int alembic_check_revisions(const struct alembic *upgrade, const struct alembic *downgrade, struct err *err)
{
        bool same = upgrade->revision_count == downgrade->revision_count;

        for (size_t i = 0; same && i < upgrade->revision_count; i++)
                same = alembic_has_revision(downgrade, upgrade->revisions[i]);
        if (same)
                return 0;
        return err_field(err, downgrade->name,
                         "%s takes back other revisions than %s brings: both need the same range, `alembic upgrade A:B "
                         "--sql` and `alembic downgrade B:A --sql`",
                         downgrade->name, upgrade->name);
}

static bool alembic_is_one_drop(const char *sql)
{
        size_t length = migration_next_statement(sql);
        const char *at = sql, *end = sql + length;
        struct token first = token_next(&at, end), second = token_next(&at, end);

        return token_is(&first, "drop") && token_is(&second, "table") && *end == '\0';
}

void alembic_join_drop(struct alembic *downgrade)
{
        struct alembic_part *last = downgrade->parts + downgrade->part_count - 1;
        char *sql;

        if (downgrade->part_count < 3 || last->empty || last[-1].empty || !alembic_is_one_drop(last->sql))
                return;
        sql = mem_printf("%s\n\n%s", last[-1].sql, last->sql);
        free(last[-1].sql);
        last[-1].sql = sql;
        *last->sql = '\0';
        last->empty = true;
}

/* An autocommit_block() of the one must be one of the other, in the same revision. */
static bool alembic_is_mirrored_at(const struct alembic *upgrade, const struct alembic *downgrade, size_t at)
{
        const struct alembic_part *up = &upgrade->parts[at], *down = &downgrade->parts[upgrade->part_count - 1 - at];

        if (up->transaction || (up->empty && down->empty))
                return true;
        return up->empty == down->empty &&
               (upgrade->revision_count == 0 || up->revision + down->revision == upgrade->revision_count + 1);
}

int alembic_check_mirrored(const struct alembic *upgrade, const struct alembic *downgrade, struct err *err)
{
        bool mirrored = upgrade->part_count == downgrade->part_count;

        for (size_t i = 0; mirrored && i < upgrade->revision_count; i++)
                mirrored = strcmp(upgrade->revisions[i], downgrade->revisions[upgrade->revision_count - 1 - i]) == 0;
        for (size_t i = 0; mirrored && i < upgrade->part_count; i++)
                mirrored = alembic_is_mirrored_at(upgrade, downgrade, i);
        if (mirrored)
                return 0;
        return err_field(err, downgrade->name,
                         "%s does not mirror the upgrade: which of its parts takes back which of the upgrade's %zu "
                         "files cannot be known. Give downgrade() an autocommit_block() where upgrade() has one, or "
                         "import one revision at a time, or leave --down out and write each migrate:down by hand",
                         downgrade->name, alembic_count_full(upgrade));
}

int alembic_check_as_one(const struct alembic *alembic, struct err *err)
{
        const char *at = alembic->sql, *wrong;
        size_t length;

        for (; (length = migration_next_statement(at)) > 0; at += length)
                if ((wrong = migration_statement_wrong(at, length, false)) != NULL)
                        return alembic_complain(alembic, at + migration_statement_start(at, length), wrong, err);
        return 0;
}
