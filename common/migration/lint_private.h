/* What the files of the linter share: the rules, one statement's words, what the file has made so far. */
#pragma once

#include "common/migration/lint.h"
#include "common/migration/token.h"

enum lint_rule {
        LINT_DROP_TABLE,
        LINT_DROP_COLUMN,
        LINT_DROP_OBJECT,
        LINT_DROP_DEFAULT,
        LINT_RENAME,
        LINT_TYPE_CHANGE,
        LINT_NOT_NULL,
        LINT_TIGHTENED_CONSTRAINT,
        LINT_TIGHTENED_RIGHTS,
        LINT_VOLATILE_DEFAULT,
        LINT_INDEX_NOT_CONCURRENTLY,
        LINT_CONSTRAINT_SCAN,
        LINT_UPDATE_BESIDE_DDL,
        LINT_NO_DOWN,
        LINT_DOWN_LOSES_DATA,
        LINT_NOT_IDEMPOTENT,
        LINT_BAD_ALLOW,
        LINT_RULES, /* how many there are */
};

struct lint_rule_row {
        const char *name;
        bool breaking;
        bool in_down; /* looked for in migrate:down as well, where nothing is breaking */
        const char *reason, *safe_way;
};

extern const struct lint_rule_row LINT_ROWS[LINT_RULES];
/* LINT_RULES if there is none of that name. */
enum lint_rule lint_find_rule(const char *name);
/* Appends a finding; object is copied and shortened. Returns its index, or -1 where the limit left it out. */
ssize_t lint_add(struct migration_findings *findings, enum lint_rule rule, const struct migration_finding *at,
                 const char *object);

/* Takes a finding back, which lint_add has returned the index of; not once the limit is reached, since it may stand for
 * others then. -1 is none. */
void lint_withdraw(struct migration_findings *findings, ssize_t index);
/* Removes those that were taken back, and sorts the rest. */
void lint_settle(struct migration_findings *findings);

/* The words of a piece of SQL, one after the other. */
struct lint_words {
        const char *at, *end;
        struct token token; /* the present one; TOKEN_END behind the last */
};

struct lint_words lint_words(const char *at, const char *end);
void lint_next(struct lint_words *words);
/* Goes on if the present token is this; false, and stays, if not. */
bool lint_take(struct lint_words *words, const char *word);
bool lint_take_mark(struct lint_words *words, char mark);
bool lint_take_one_of(struct lint_words *words, const char *const *list);
/* Both words, or neither. */
bool lint_take_two(struct lint_words *words, const char *first, const char *second);
/* "if exists" or "if not exists". */
bool lint_take_condition(struct lint_words *words);
/* A plain name, in lower case unless it is quoted; NULL, and stays, if there is none. The caller frees. */
char *lint_take_word(struct lint_words *words);
/* The name of an object, with "public." where the file gives no schema: a search_path of its own only makes the linter
 * say more than it should. The caller frees. */
char *lint_take_name(struct lint_words *words);
/* The present token, or the parenthesis that begins with it. */
void lint_skip(struct lint_words *words);
/* Moves to the next word of that kind outside parentheses; false, at the end, if there is none. */
bool lint_find(struct lint_words *words, const char *word);
/* The piece up to the next comma outside parentheses, or the statement's end; goes on behind the comma. False at the
 * end. */
bool lint_take_item(struct lint_words *words, struct lint_words *ret);

/* Something that the file has made or dropped, and what is known of it. */
struct lint_object {
        char *key;       /* "KIND NAME" */
        char *column;    /* of a constraint "check (COLUMN is not null)"; may be NULL */
        bool made;       /* by this file; otherwise only noted */
        bool in_down;    /* made there */
        bool cleared;    /* "drop ... if exists" precedes: what follows can be run again */
        bool filled;     /* a column with a default or a value of its own */
        bool not_null;   /* a column */
        bool not_valid;  /* a constraint, until it is validated */
        int transaction; /* the one that made it */
        ssize_t finding; /* of its drop; -1 for none */
};

/* One pass over a file, in its order: migrate:up, then migrate:down. */
struct lint {
        const struct migration_section *section;
        const char *text;   /* what is being read: the section's sql, or a copy of a do block's body ... */
        size_t text_offset; /* ... which begins there in it */
        bool in_down;
        bool in_block;   /* within a do block, whose conditions are not understood */
        bool ddl;        /* the present transaction has changed what was there before */
        int transaction; /* the number of the present one */
        struct migration_findings found;
        struct migration_findings updates; /* of whole tables in this transaction: findings once it has ddl */
        void *objects;                     /* of tsearch */
        /* The place reached, which only moves forward: counted from the start each time, a large file takes forever. */
        struct migration_place place;
        size_t offset, piece;
};

/* Objects. All borrow their texts; what they return belongs to lint. */
struct lint_object *lint_note(struct lint *lint, const char *kind, const char *name);
/* The object, made by this file. */
struct lint_object *lint_make(struct lint *lint, const char *kind, const char *name);
/* NULL unless this file has made it. */
struct lint_object *lint_made(const struct lint *lint, const char *kind, const char *name);
/* A table, or what can be used like one: a view, a sequence. */
bool lint_made_relation(const struct lint *lint, const char *name);
/* Whether the words name a column of the table that the file has made. */
bool lint_names_made_column(const struct lint *lint, const char *table, struct lint_words words);
void lint_unmake(struct lint *lint, const char *kind, const char *name);
/* "TABLE.PART", a column or a constraint. The caller frees. */
char *lint_part(const char *table, const char *part);
void lint_release_objects(struct lint *lint);

/* Appends a finding at this byte of lint->text, unless the rule is not for migrate:down. Returns its index or -1. */
ssize_t lint_report(struct lint *lint, enum lint_rule rule, const char *at, const char *object);
/* The same for a statement that could not be run again, outside a transaction. */
void lint_report_repeated(struct lint *lint, const char *at, const char *object);

/* Statements by their first words, which are taken already; at is where the statement begins. */
void lint_create(struct lint *lint, const char *at, struct lint_words *words);
void lint_drop(struct lint *lint, const char *at, struct lint_words *words);
void lint_alter(struct lint *lint, const char *at, struct lint_words *words);
void lint_revoke(struct lint *lint, const char *at, struct lint_words *words);
void lint_update(struct lint *lint, const char *at, struct lint_words *words);
void lint_delete(struct lint *lint, const char *at, struct lint_words *words);
void lint_truncate(struct lint *lint, const char *at, struct lint_words *words);

/* Whether it is a "rename" or a "set schema", which is reported; what the file itself has made is known by its new name
 * from then on. kind is the word before the name. */
bool lint_rename(struct lint *lint, const char *at, const char *kind, const char *name, struct lint_words *words);
/* What follows "alter table". */
void lint_alter_table(struct lint *lint, const char *at, struct lint_words *words);
/* The rest of "add column" and of "add" a constraint, in "alter table" of a table that the file has not made. */
void lint_add_column(struct lint *lint, const char *at, const char *table, struct lint_words *words);
void lint_add_constraint(struct lint *lint, const char *at, const char *table, struct lint_words *words);
void lint_validate_constraint(struct lint *lint, const char *at, const char *table, struct lint_words *words);
