/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CLUSTER, READONLY, READWRITE, ASKING. With server.cluster_emulation Keyweir is a Cluster of one node that serves
 * every slot, so that cluster clients work as they are; without, it is a standalone server, whatever stands behind it.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/client.h"
#include "client/dispatch.h"
#include "net/addr.h"
#include "resp/write.h"
#include "server.h"
#include "upstream/route.h"
#include "upstream/slot.h"

#define BUS_PORT_OFFSET 10000

/* Where this client has found us: it will find us there again. */
static int own_address(const struct client *c, char host[INET6_ADDRSTRLEN])
{
	char text[ADDRESS_TEXT_MAX];
	struct address a;
	char *colon;

	snprintf(host, INET6_ADDRSTRLEN, "127.0.0.1");
	if (!address_of_socket(c->io.fd, true, &a) || a.sa.sa_family == AF_UNIX)
		return 0;
	address_format(&a, text);
	colon = strrchr(text, ':');
	*colon = '\0';
	if (text[0] == '[')
		snprintf(host, INET6_ADDRSTRLEN, "%.*s", (int)strlen(text) - 2, text + 1);
	else
		snprintf(host, INET6_ADDRSTRLEN, "%.*s", INET6_ADDRSTRLEN - 1, text);
	return atoi(colon + 1);
}

static void put_slots(struct client *c, struct buf *b)
{
	char host[INET6_ADDRSTRLEN];
	int port = own_address(c, host);

	resp_array(b, 1);
	resp_array(b, 3);
	resp_int(b, 0);
	resp_int(b, SLOTS - 1);
	resp_array(b, 4);
	resp_bulks(b, host);
	resp_int(b, port);
	resp_bulks(b, c->w->server->node_id);
	resp_map(b, c->proto, 0);
}

static void put_shards(struct client *c, struct buf *b)
{
	char host[INET6_ADDRSTRLEN];
	int port = own_address(c, host);

	resp_array(b, 1);
	resp_map(b, c->proto, 2);
	resp_bulks(b, "slots");
	resp_array(b, 2);
	resp_int(b, 0);
	resp_int(b, SLOTS - 1);
	resp_bulks(b, "nodes");
	resp_array(b, 1);
	resp_map(b, c->proto, 7);
	resp_bulks(b, "id");
	resp_bulks(b, c->w->server->node_id);
	resp_bulks(b, "port");
	resp_int(b, port);
	resp_bulks(b, "ip");
	resp_bulks(b, host);
	resp_bulks(b, "endpoint");
	resp_bulks(b, host);
	resp_bulks(b, "role");
	resp_bulks(b, "master");
	resp_bulks(b, "replication-offset");
	resp_int(b, 0);
	resp_bulks(b, "health");
	resp_bulks(b, "online");
}

static void put_nodes(struct client *c, struct buf *b)
{
	char host[INET6_ADDRSTRLEN], line[256];
	int port = own_address(c, host);

	snprintf(line, sizeof(line), "%s %s:%d@%d myself,master - 0 0 1 connected 0-%d\n", c->w->server->node_id, host,
		 port, port + BUS_PORT_OFFSET, SLOTS - 1);
	resp_verbatim(b, c->proto, line, strlen(line));
}

static void put_info(struct client *c, struct buf *b)
{
	static const char text[] = "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n"
				   "cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:1\r\n"
				   "cluster_size:1\r\ncluster_current_epoch:1\r\ncluster_my_epoch:1\r\n"
				   "cluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n";

	resp_verbatim(b, c->proto, text, sizeof(text) - 1);
}

static void put_id(struct client *c, struct buf *b)
{
	resp_bulks(b, c->w->server->node_id);
}

static const struct {
	const char *name;
	void (*put)(struct client *c, struct buf *b);
} answers[] = {
	{"SLOTS", put_slots}, {"SHARDS", put_shards}, {"NODES", put_nodes},
	{"INFO", put_info},   {"MYID", put_id},	      {"MYSHARDID", put_id},
};

static bool emulate(struct client *c, const struct call *call)
{
	struct buf b = {0};
	const char *key;
	size_t len;

	for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
		if (call->frame->argc != 2 || !call_arg_is(call, 1, answers[i].name))
			continue;
		answers[i].put(c, &b);
		client_reply(c, call, &b);
		return true;
	}
	if (call->frame->argc != 3 || !call_arg_is(call, 1, "KEYSLOT"))
		return false;
	key = call_arg(call, 2, &len);
	resp_int(&b, key ? (int64_t)hash_slot(key, len) : 0);
	client_reply(c, call, &b);
	return true;
}

/* What a Redis without Cluster says; when there is a standalone one behind, it says so itself. */
static enum verdict refuse(struct client *c, const struct call *call)
{
	if (c->w->routes[0].up->conf->mode != UPSTREAM_CLUSTER)
		return forward(c, call, 0, NULL, 0);
	client_reply_error(c, call, "ERR This instance has cluster support disabled");
	return CALL_DONE;
}

enum verdict handle_CLUSTER(struct client *c, const struct call *call)
{
	if (!c->w->snapshot->config->server.cluster_emulation)
		return refuse(c, call);
	if (!emulate(c, call))
		client_reply_own_error(c, call, ERROR_REFUSED);
	return CALL_DONE;
}

/* READONLY, READWRITE, ASKING: states of a connection to a node, of which the client has none. */
enum verdict handle_CLUSTER_STATE(struct client *c, const struct call *call)
{
	if (!c->w->snapshot->config->server.cluster_emulation)
		return refuse(c, call);
	client_reply_ok(c, call);
	return CALL_DONE;
}
