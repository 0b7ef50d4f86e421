/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A mixed load for tests/bench/bench-near-cache:
 *
 *      zipf_load PORT fill             writes every key once
 *      zipf_load PORT SECONDS SEED     95 % GET, 5 % SET, keys by Zipf 0.99; prints how many requests, and the seconds
 *
 * 16 connections on loopback with pipelines of 16, RESP2. A value begins with the number of its key: an answer that is
 * not that of the key asked for ends the program.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define N_KEYS	   1000000
#define N_CONNS	   16
#define DEPTH	   16
#define VALUE_SIZE 100
#define DIGITS	   12 /* of a key's number */
#define GET_REPLY  ((int)sizeof("$100\r\n") - 1 + VALUE_SIZE + 2)
#define SET_REPLY  ((int)sizeof("+OK\r\n") - 1)

struct conn {
	int fd;
	int n_in;	      /* bytes of the answers so far */
	int n_due;	      /* and how many they are in all */
	uint32_t keys[DEPTH]; /* asked for */
	bool set[DEPTH];
	char in[DEPTH * GET_REPLY + 256];
};

/* Zipf by Walker's alias method: a slot is its own key so often, and else the other one. */
struct slot {
	float own;
	uint32_t other;
};

struct load {
	struct conn conns[N_CONNS];
	struct slot *slots;
	uint32_t *key_of; /* of a rank: popular keys aren't neighbours */
	uint64_t random;
	uint32_t next; /* key to be filled */
	bool fill;
	uint64_t requests;
	struct timespec from;
	double seconds;
};

static void die(const char *what)
{
	fprintf(stderr, "zipf_load: %s\n", what);
	exit(1);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (*state * 0x2545f4914f6cdd1dULL) >> 11;
}

static void *memory(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p)
		die("no memory");
	return p;
}

/* Those below the mean take what they lack from those above it. */
static void share(struct slot *slots, double *p)
{
	uint32_t *low = memory(N_KEYS, sizeof(*low)), *high = memory(N_KEYS, sizeof(*high)), n_low = 0, n_high = 0;

	for (uint32_t i = 0; i < N_KEYS; i++) {
		slots[i] = (struct slot){1, i};
		if (p[i] < 1)
			low[n_low++] = i;
		else
			high[n_high++] = i;
	}
	while (n_low > 0 && n_high > 0) {
		uint32_t poor = low[--n_low], rich = high[n_high - 1];

		slots[poor] = (struct slot){(float)p[poor], rich};
		p[rich] -= 1 - p[poor];
		if (p[rich] < 1) {
			n_high--;
			low[n_low++] = rich;
		}
	}
	free(low);
	free(high);
}

static void zipf_init(struct load *l)
{
	double *p = memory(N_KEYS, sizeof(*p)), sum = 0;
	uint64_t random = 88172645463325252ULL; /* every run has the same popular keys */

	l->slots = memory(N_KEYS, sizeof(*l->slots));
	l->key_of = memory(N_KEYS, sizeof(*l->key_of));
	for (uint32_t i = 0; i < N_KEYS; i++) {
		uint32_t j = (uint32_t)(next_random(&random) % (i + 1));

		l->key_of[i] = l->key_of[j];
		l->key_of[j] = i;
		sum += p[i] = pow(i + 1, -0.99);
	}
	for (uint32_t i = 0; i < N_KEYS; i++)
		p[i] *= N_KEYS / sum;
	share(l->slots, p);
	free(p);
}

static uint32_t zipf(struct load *l)
{
	uint64_t r = next_random(&l->random);
	uint32_t i = (uint32_t)(r % N_KEYS);
	float x = (float)(next_random(&l->random) >> 29) / (float)(1 << 24);

	return l->key_of[x < l->slots[i].own ? i : l->slots[i].other];
}

static void send_all(int fd, const char *data, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(fd, data, n, MSG_NOSIGNAL);

		if (sent < 0 && errno != EINTR)
			die("cannot send");
		data += sent > 0 ? sent : 0;
		n -= sent > 0 ? (size_t)sent : 0;
	}
}

/* A number without snprintf, which would cost more than the server. */
static void digits(char *to, uint32_t key)
{
	for (int i = DIGITS; i-- > 0; key /= 10)
		to[i] = (char)('0' + key % 10);
}

#define GET_HEAD  "*2\r\n$3\r\nGET\r\n"
#define SET_HEAD  "*3\r\n$3\r\nSET\r\n"
#define KEY_HEAD  "$16\r\nkey:"
#define DATA_HEAD "\r\n$100\r\n"

static char *put(char *to, const char *text)
{
	size_t n = strlen(text);

	memcpy(to, text, n);
	return to + n;
}

static char *put_request(char *to, uint32_t key, bool set)
{
	to = put(put(to, set ? SET_HEAD : GET_HEAD), KEY_HEAD);
	digits(to, key);
	to += DIGITS;
	if (set) {
		to = put(to, DATA_HEAD);
		memset(to, 'x', VALUE_SIZE);
		digits(to, key);
		to += VALUE_SIZE;
	}
	return put(to, "\r\n");
}

static void ask(struct load *l, struct conn *c)
{
	char out[DEPTH * (VALUE_SIZE + 64)], *to = out;

	c->n_in = c->n_due = 0;
	for (int i = 0; i < DEPTH; i++) {
		c->keys[i] = l->fill ? l->next++ % N_KEYS : zipf(l);
		c->set[i] = l->fill || next_random(&l->random) % 100 < 5;
		c->n_due += c->set[i] ? SET_REPLY : GET_REPLY;
		to = put_request(to, c->keys[i], c->set[i]);
	}
	send_all(c->fd, out, (size_t)(to - out));
}

/* Ends the program when it is anything else than what is due. */
static void check(const struct conn *c)
{
	const char *at = c->in;

	for (int i = 0; i < DEPTH; i++) {
		char value[DIGITS];

		digits(value, c->keys[i]);
		if (c->set[i] ? memcmp(at, "+OK\r\n", SET_REPLY) != 0
			      : memcmp(at, "$100\r\n", 6) != 0 || memcmp(at + 6, value, DIGITS) != 0)
			die("not the answer to what was asked");
		at += c->set[i] ? SET_REPLY : GET_REPLY;
	}
}

/* True: all answers are there. */
static bool take(struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->n_in, sizeof(c->in) - (size_t)c->n_in, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
		die("the connection is gone");
	c->n_in += (int)n;
	if (c->in[0] == '-' || c->n_in > c->n_due) {
		fprintf(stderr, "%.*s", c->n_in, c->in);
		die("an answer that was not awaited");
	}
	if (c->n_in < c->n_due)
		return false;
	check(c);
	return true;
}

static double since(const struct timespec *from)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - from->tv_sec) + (double)(now.tv_nsec - from->tv_nsec) / 1e9;
}

static bool is_over(const struct load *l)
{
	return l->fill ? l->next >= N_KEYS : since(&l->from) >= l->seconds;
}

static void run(struct load *l)
{
	struct pollfd polls[N_CONNS];
	int busy = N_CONNS;

	clock_gettime(CLOCK_MONOTONIC, &l->from);
	for (int i = 0; i < N_CONNS; i++) {
		polls[i] = (struct pollfd){.fd = l->conns[i].fd, .events = POLLIN};
		ask(l, &l->conns[i]);
	}
	while (busy > 0) {
		bool over = is_over(l);

		if (poll(polls, N_CONNS, 10000) <= 0)
			die("no answer for ten seconds");
		for (int i = 0; i < N_CONNS; i++) {
			if (!polls[i].revents || !take(&l->conns[i]))
				continue;
			l->requests += DEPTH;
			if (!over) {
				ask(l, &l->conns[i]);
				continue;
			}
			polls[i].fd = -1;
			busy--;
		}
	}
}

static void connect_all(struct load *l, int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int one = 1;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (int i = 0; i < N_CONNS; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
			die("cannot connect");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		l->conns[i].fd = fd;
	}
}

int main(int argc, char **argv)
{
	static struct load l;

	l.fill = argc == 3 && strcmp(argv[2], "fill") == 0;
	if (argc != 4 && !l.fill)
		die("PORT fill, or PORT SECONDS SEED");
	if (!l.fill) {
		l.seconds = atof(argv[2]);
		l.random = (strtoull(argv[3], NULL, 10) + 1) * 0x9e3779b97f4a7c15ULL;
	}
	zipf_init(&l);
	connect_all(&l, atoi(argv[1]));
	run(&l);
	printf("%llu %.6f\n", (unsigned long long)l.requests, since(&l.from));
	for (int i = 0; i < N_CONNS; i++)
		close(l.conns[i].fd);
	free(l.slots);
	free(l.key_of);
	return 0;
}
