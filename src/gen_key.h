/* SPDX-License-Identifier: BSD-2-Clause */
/* keyweir gen-key: a key for [encryption]. */
#ifndef KEYWEIR_GEN_KEY_H
#define KEYWEIR_GEN_KEY_H

/* argv[0] is "gen-key". Returns an exit status. libsodium is ready. */
int gen_key(int argc, char **argv);

#endif
