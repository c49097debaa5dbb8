/* The content of a file of this repository as part of the program. */
#pragma once

/* symbol: a text, with a NUL behind it. path: from the root of the repository. The object must depend on the file: see
 * the Makefile. */
#define EMBED(symbol, path)                                                                                            \
        __asm__(".pushsection .rodata\n" #symbol ":\n.incbin \"" path "\"\n.byte 0\n.popsection\n");                   \
        extern const char symbol[]
