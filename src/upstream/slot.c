/* SPDX-License-Identifier: BSD-2-Clause */
/* Hash slots: see slot.h. */
#include "upstream/slot.h"

#include <stdint.h>
#include <string.h>

/* CRC-16/XMODEM: polynomial 0x1021, nothing reflected, from zero (cluster specification, appendix A). */
static uint16_t table[256];

__attribute__((constructor)) static void make_table(void)
{
	for (unsigned i = 0; i < 256; i++) {
		unsigned crc = i << 8;

		for (int bit = 0; bit < 8; bit++)
			crc = crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1;
		table[i] = (uint16_t)crc;
	}
}

static unsigned crc16(const char *p, size_t len)
{
	unsigned crc = 0;

	for (size_t i = 0; i < len; i++)
		crc = (crc << 8 ^ table[(crc >> 8 ^ (unsigned char)p[i]) & 0xff]) & 0xffff;
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
