/* SCRAM-SHA-256 verifiers (RFC 5803 form, as PostgreSQL stores them): a server given one never sees the password. */
#pragma once

/* The caller frees. password is ASCII, as ours always are (then SASLprep changes nothing). */
char *scram_verifier(const char *password);
