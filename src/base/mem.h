/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory for what the program itself needs: these log and abort when there is none left. Sizes that come from the
 * wire never go through here unchecked (buf.h has the checked forms).
 */
#ifndef KEYWEIR_MEM_H
#define KEYWEIR_MEM_H

#include <stddef.h>

void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull, warn_unused_result));
void *xrealloc(void *p, size_t size) __attribute__((returns_nonnull, warn_unused_result));
void *xreallocarray(void *p, size_t n, size_t size) __attribute__((returns_nonnull, warn_unused_result));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull, warn_unused_result));
char *xmemdup0(const void *p, size_t len) __attribute__((malloc, returns_nonnull, warn_unused_result));
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull, warn_unused_result));

/* Whole pages, all zero, left out of core dumps; given back by munmap(). */
void *xmap(size_t bytes) __attribute__((malloc, returns_nonnull, warn_unused_result));

#endif
