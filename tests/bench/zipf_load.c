/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A load of GETs and SETs on keys that are as unequal as those of real caches: the key of rank i is asked for with a
 * probability of 1/i^0.99 (Zipf; the generator of YCSB, after Gray et al., "Quickly generating billion-record synthetic
 * databases"). One thread, epoll.
 *
 *      zipf_load PORT fill KEYS SIZE                     sets all keys
 *      zipf_load PORT run KEYS SIZE REQUESTS CLIENTS DEPTH READ_PERCENT SEED
 *
 * Values are of SIZE/2 to SIZE*3/2 bytes. Prints "requests seconds misses".
 */
#include <arpa/inet.h>
#include <err.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define THETA	0.99
#define ROOM	(1 << 20)
#define CLIENTS 1024

struct conn {
	int fd;
	unsigned owed;	    /* replies */
	uint64_t skip;	    /* bytes of a value that are still to come */
	char line[64];	    /* the beginning of a reply's line */
	unsigned line_len;
};

static struct {
	uint64_t keys, size, reads, state;
	double zetan, eta;
	char value[1 << 16];
	char out[ROOM], in[ROOM];
	uint64_t misses;
} g;

static uint64_t next_random(void)
{
	uint64_t z = g.state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static double next_double(void)
{
	return (double)(next_random() >> 11) / 9007199254740992.0;
}

static void zipf_init(void)
{
	for (uint64_t i = 1; i <= g.keys; i++)
		g.zetan += 1 / pow((double)i, THETA);
	g.eta = (1 - pow(2.0 / (double)g.keys, 1 - THETA)) / (1 - (1 + pow(0.5, THETA)) / g.zetan);
}

static uint64_t zipf_rank(void)
{
	double u = next_double(), uz = u * g.zetan;

	if (uz < 1)
		return 0;
	if (uz < 1 + pow(0.5, THETA))
		return 1;
	return (uint64_t)((double)g.keys * pow(g.eta * u - g.eta + 1, 1 / (1 - THETA))) % g.keys;
}

/* Which key has this rank: neighbours in rank are none by name. The multiplier has no factor in common with the keys. */
static uint64_t key_of(uint64_t rank)
{
	return rank * 2654435761ULL % g.keys;
}

static uint64_t size_of(uint64_t key)
{
	return g.size / 2 + key * 7919 % (g.size + 1);
}

static size_t put_set(char *p, uint64_t key)
{
	uint64_t size = size_of(key);
	int n = sprintf(p, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012" PRIu64 "\r\n$%" PRIu64 "\r\n", key, size);

	memcpy(p + n, g.value, size);
	memcpy(p + n + size, "\r\n", 2);
	return (size_t)n + size + 2;
}

static size_t put_get(char *p, uint64_t key)
{
	return (size_t)sprintf(p, "*2\r\n$3\r\nGET\r\n$16\r\nkey:%012" PRIu64 "\r\n", key);
}

static size_t put_request(char *p)
{
	uint64_t key = key_of(zipf_rank());

	return next_random() % 100 < g.reads ? put_get(p, key) : put_set(p, key);
}

static void send_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

		if (sent < 0)
			err(1, "send");
		p += sent;
		n -= (size_t)sent;
	}
}

static void take_line(struct conn *c)
{
	c->line[c->line_len] = 0;
	c->line_len = 0;
	if (*c->line == '-')
		errx(1, "%s", c->line);
	if (*c->line == '$' && c->line[1] == '-')
		g.misses++;
	else if (*c->line == '$')
		c->skip = strtoull(c->line + 1, NULL, 10) + 2;
	if (c->skip == 0)
		c->owed--;
}

static void take(struct conn *c, const char *p, size_t n)
{
	while (n > 0) {
		if (c->skip > 0) {
			uint64_t part = c->skip < n ? c->skip : n;

			c->skip -= part;
			p += part;
			n -= part;
			c->owed -= c->skip == 0;
			continue;
		}
		if (*p == '\n')
			take_line(c);
		else if (c->line_len < sizeof(c->line) - 1)
			c->line[c->line_len++] = *p;
		p++;
		n--;
	}
}

static int dial(uint16_t port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;

	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		err(1, "connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	return fd;
}

static void read_some(struct conn *c)
{
	ssize_t n = read(c->fd, g.in, ROOM);

	if (n <= 0)
		err(1, "read");
	take(c, g.in, (size_t)n);
}

static void fill(uint16_t port)
{
	struct conn c = {.fd = dial(port)};
	size_t n = 0;

	for (uint64_t key = 0; key < g.keys; key++) {
		n += put_set(g.out + n, key);
		c.owed++;
		if (c.owed < 200 && key + 1 < g.keys)
			continue;
		send_all(c.fd, g.out, n);
		for (n = 0; c.owed > 0;)
			read_some(&c);
	}
}

static void ask(struct conn *c, unsigned depth, uint64_t *left)
{
	size_t n = 0;

	while (c->owed < depth && *left > 0 && n < ROOM - sizeof(g.value)) {
		n += put_request(g.out + n);
		c->owed++;
		--*left;
	}
	send_all(c->fd, g.out, n);
}

static void run(uint16_t port, uint64_t requests, unsigned clients, unsigned depth)
{
	static struct conn conns[CLIENTS];
	struct epoll_event events[64];
	int epoll = epoll_create1(0);
	unsigned open = clients;

	for (unsigned i = 0; i < clients; i++) {
		struct epoll_event e = {.events = EPOLLIN, .data.ptr = &conns[i]};

		conns[i].fd = dial(port);
		epoll_ctl(epoll, EPOLL_CTL_ADD, conns[i].fd, &e);
		ask(&conns[i], depth, &requests);
		open -= conns[i].owed == 0;
	}
	while (open > 0) {
		int n = epoll_wait(epoll, events, 64, -1);

		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			read_some(c);
			if (c->owed > 0)
				continue;
			ask(c, depth, &requests);
			open -= c->owed == 0;
		}
	}
}

int main(int argc, char **argv)
{
	struct timespec a, b;
	uint64_t requests = 0;

	if (argc < 5)
		errx(2, "see the head of the source");
	g.keys = strtoull(argv[3], NULL, 10);
	g.size = strtoull(argv[4], NULL, 10);
	if (g.keys < 2 || g.size > sizeof(g.value) / 2)
		errx(2, "too few keys, or too large");
	memset(g.value, 'x', sizeof(g.value));
	clock_gettime(CLOCK_MONOTONIC, &a);
	if (strcmp(argv[2], "fill") == 0) {
		requests = g.keys;
		fill((uint16_t)atoi(argv[1]));
	} else if (argc == 10 && atoi(argv[6]) <= CLIENTS) {
		requests = strtoull(argv[5], NULL, 10);
		g.reads = strtoull(argv[8], NULL, 10);
		g.state = strtoull(argv[9], NULL, 10);
		zipf_init();
		clock_gettime(CLOCK_MONOTONIC, &a);
		run((uint16_t)atoi(argv[1]), requests, (unsigned)atoi(argv[6]), (unsigned)atoi(argv[7]));
	} else {
		errx(2, "see the head of the source");
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%" PRIu64 " %.3f %" PRIu64 "\n", requests,
	       (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9, g.misses);
	return 0;
}
