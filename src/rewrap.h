/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * keyweir rewrap: walks a namespace and writes every value again as it is, as an ordinary client of the running daemon.
 * Reading opens a value with whichever key it was sealed, writing seals it with the first one; so the tool itself
 * needs no key. When it ends with 0 the other keys can go.
 */
#ifndef KEYWEIR_REWRAP_H
#define KEYWEIR_REWRAP_H

/* argv[0] is "rewrap". Returns the exit status. */
int rewrap(int argc, char **argv);

#endif
