/* SPDX-License-Identifier: BSD-2-Clause */
/* Hash slots: see slot.h. */
#include "upstream/slot.h"

#include <stdint.h>
#include <string.h>

/* CRC-16/XMODEM: polynomial 0x1021, nothing reflected, from zero (cluster specification, appendix A). */
static uint16_t table[4][256]; /* [k]: a byte with k zero bytes behind it, for four bytes in one step */

__attribute__((constructor)) static void make_table(void)
{
	for (unsigned i = 0; i < 256; i++) {
		unsigned crc = i << 8;

		for (int bit = 0; bit < 8; bit++)
			crc = crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1;
		table[0][i] = (uint16_t)crc;
	}
	for (int k = 1; k < 4; k++)
		for (unsigned i = 0; i < 256; i++)
			table[k][i] = (uint16_t)(table[k - 1][i] << 8 ^ table[0][table[k - 1][i] >> 8]);
}

static unsigned crc16(const char *p, size_t len)
{
	const unsigned char *b = (const unsigned char *)p;
	unsigned crc = 0;

	for (; len >= 4; len -= 4, b += 4)
		crc = table[3][crc >> 8 ^ b[0]] ^ table[2][(crc & 0xff) ^ b[1]] ^ table[1][b[2]] ^ table[0][b[3]];
	for (; len > 0; len--, b++)
		crc = (crc << 8 ^ table[0][crc >> 8 ^ *b]) & 0xffff;
	return crc;
}

unsigned hash_slot(const char *key, size_t len)
{
	const char *open = memchr(key, '{', len), *close;

	/* Only what stands between the first { and the first } behind it counts, when there is something. */
	if (open) {
		size_t rest = len - (size_t)(open + 1 - key);

		close = memchr(open + 1, '}', rest);
		if (close && close > open + 1)
			return crc16(open + 1, (size_t)(close - open - 1)) % SLOTS;
	}
	return crc16(key, len) % SLOTS;
}
