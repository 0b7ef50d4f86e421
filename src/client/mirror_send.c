/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copies on their way: over one link for each node and database, in order, within bounds.
 *
 * A mirror that is a Cluster may redirect a copy. Those behind it must not overtake it: from then on copies wait here
 * until all on the way are answered; then those that were redirected go to where they belong, and the others follow.
 * So it is when the map of the mirror has changed.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "client/mirror_private.h"
#include "client/redirect.h"
#include "client/throttle.h"
#include "client/unit.h"

#define LATER_US     50000
#define FIRST_TRY_US 10000 /* doubles */
#define TRIES_MAX    6

struct route *mirror_route(const struct mirror *m)
{
	return worker_route(m->w, m->up);
}

void mirror_dropped(const struct mirror *m, const char *why)
{
	static struct log_limit limit;

	counter_add(&m->w->counters.mirror_dropped, 1);
	if (log_limit_pass(&limit))
		log_warn("Mirror %s does not get all copies: %s", m->up->conf->name, why);
}

/* ---- copies ---- */

struct copy *mirror_copy_new(struct mirror *m, const struct command *cmd, int db, int slot)
{
	struct copy *copy = xcalloc(1, sizeof(*copy));

	list_init(&copy->node);
	copy->m = m;
	copy->cmd = cmd;
	copy->db = db;
	copy->slot = (int16_t)slot;
	return copy;
}

static void copy_free(struct copy *copy)
{
	list_remove(&copy->node);
	copy->m->expected_bytes -= buf_len(&copy->expected);
	buf_release(&copy->bytes);
	buf_release(&copy->expected);
	if (copy->at)
		node_unref(&copy->at);
	free(copy);
}

static void drop(struct copy *copy, const char *why)
{
	mirror_dropped(copy->m, why);
	copy_free(copy);
}

/* ---- sending ---- */

/* Bytes on the link that are not answered yet. */
static size_t unanswered_bytes(const struct link *l)
{
	return l->head ? (size_t)(l->out.end_pos - l->head->pos) : l->out.bytes;
}

static struct link *find_link(const struct copy *copy, size_t len, const char **why)
{
	struct route *route = mirror_route(copy->m);
	struct pool *p = NULL;
	struct link *l;

	if (copy->at)
		p = route_pool(copy->m->w, copy->at, false);
	else if (route)
		p = route_master(route, copy->slot);
	*why = "it is down";
	if (!p || pool_is_down(p)) {
		redirect_stale(copy->m->w, copy->m->up);
		return NULL;
	}
	*why = "it has no connection to spare (pool_size)";
	if (pool_mirror(p, copy->db, &l) != POOL_OK || l->state == LINK_CLOSED)
		return NULL;
	*why = "it is too slow";
	return l->n_queue >= MIRROR_COPIES_MAX || unanswered_bytes(l) + len > MIRROR_BYTES_MAX ? NULL : l;
}

static void put(struct copy *copy, const char *bytes, size_t len)
{
	struct mirror *m = copy->m;
	const char *why;
	struct link *l = find_link(copy, len, &why);
	struct request *r;

	if (!l) {
		drop(copy, why);
		return;
	}
	if (throttle_is(bytes, len))
		throttle_load(l);
	if (copy->asking)
		redirect_send_asking(l);
	r = request_new(&m->w->requests);
	r->cmd = copy->cmd;
	r->flags = REQUEST_MIRROR | (copy->unit ? REQUEST_UNIT : 0);
	r->n_before = copy->unit ? unit_commands(bytes, len) - 1 : 0;
	r->slot = copy->slot;
	r->arg = (int64_t)(intptr_t)copy;
	r->start_us = m->w->now_us;
	r->deadline_us = r->start_us + forward_timeout_us(l, copy->cmd);
	m->n_on_way++;
	link_send(l, r, bytes, len);
	counter_add(&m->w->counters.mirror_sent, 1);
}

/* ---- waiting ---- */

static void wait_in(struct list *list, struct copy *copy, const char *bytes, size_t len)
{
	struct mirror *m = copy->m;

	if (m->n_waiting >= MIRROR_COPIES_MAX || m->waiting_bytes + len > MIRROR_BYTES_MAX) {
		drop(copy, "it is too slow");
		return;
	}
	buf_put(&copy->bytes, bytes, len);
	list_append(list, &copy->node);
	m->n_waiting++;
	m->waiting_bytes += len;
	worker_wake_tick(m->w);
}

void mirror_give(struct copy *copy, const char *bytes, size_t len)
{
	struct mirror *m = copy->m;

	if (m->n_waiting > 0 || (m->generation != m->w->generation && m->n_on_way > 0)) {
		wait_in(&m->waiting, copy, bytes, len);
		return;
	}
	m->generation = m->w->generation;
	put(copy, bytes, len);
}

/* ---- what was popped, and is not there yet ---- */

/* The push that it needs is on its way, perhaps over another worker's link. False: it was looked for often enough. */
static bool try_later(struct request *r, const struct link *l)
{
	struct copy *copy = (struct copy *)(intptr_t)r->arg;
	struct mirror *m = copy->m;

	if (!copy->removes || l->rf.number != 0 || copy->tries >= TRIES_MAX || m->n_later >= MIRROR_COPIES_MAX ||
	    m->later_bytes + r->len > MIRROR_BYTES_MAX || !outq_peek(&l->out, r->pos, (size_t)r->len, &copy->bytes))
		return false;
	copy->due_us = m->w->now_us + (FIRST_TRY_US << copy->tries++);
	list_append(&m->later, &copy->node);
	m->n_later++;
	m->later_bytes += buf_len(&copy->bytes);
	worker_wake_tick(m->w);
	return true;
}

static struct buf take_later(struct copy *copy)
{
	struct buf bytes = copy->bytes;

	list_remove(&copy->node);
	copy->bytes = (struct buf){0};
	copy->m->n_later--;
	copy->m->later_bytes -= buf_len(&bytes);
	return bytes;
}

static void give_due(struct mirror *m)
{
	LIST_EACH (pos, next, &m->later) {
		struct copy *copy = container_of(pos, struct copy, node);
		struct buf bytes;

		if (m->w->now_us < copy->due_us)
			continue;
		bytes = take_later(copy);
		mirror_give(copy, buf_head(&bytes), buf_len(&bytes));
		buf_release(&bytes);
	}
}

/* ---- all on the way is answered ---- */

static void put_all(struct list *list)
{
	while (!list_empty(list)) {
		struct copy *copy = container_of(list->next, struct copy, node);
		struct buf bytes = copy->bytes;

		list_remove(&copy->node);
		copy->bytes = (struct buf){0};
		put(copy, buf_head(&bytes), buf_len(&bytes));
		buf_release(&bytes);
	}
}

/* What waited goes. */
static void flush(struct mirror *m)
{
	if (m->n_waiting == 0 || m->n_on_way > 0 || m->w->now_us < m->not_before_us)
		return;
	m->generation = m->w->generation;
	m->n_waiting = 0;
	m->waiting_bytes = 0;
	put_all(&m->again);
	put_all(&m->waiting);
}

/* ---- answers ---- */

static void drop_waiting(struct mirror *m)
{
	while (!list_empty(&m->again))
		drop(container_of(m->again.next, struct copy, node), "it is given up");
	while (!list_empty(&m->waiting))
		drop(container_of(m->waiting.next, struct copy, node), "it is given up");
	m->n_waiting = 0;
	m->waiting_bytes = 0;
	while (!list_empty(&m->later)) {
		struct copy *copy = container_of(m->later.next, struct copy, node);
		struct buf bytes = take_later(copy);

		buf_release(&bytes);
		drop(copy, "it is given up");
	}
}

static void mirror_free(struct mirror *m)
{
	assert(m->n_on_way == 0);
	drop_waiting(m);
	list_remove(&m->node);
	upstream_unref(&m->up);
	free(m);
}

static void left(struct mirror *m)
{
	if (--m->n_on_way == 0)
		flush(m);
}

/* The script of a CL.THROTTLE was flushed there: the copy goes once more, behind it. False: that is not so. */
static bool lacks_script(struct request *r, struct link *l, const char *line, size_t len)
{
	static const char no_script[] = "-NOSCRIPT ";
	struct copy *copy = (struct copy *)(intptr_t)r->arg;
	struct buf bytes = {0};
	bool ours = len > sizeof(no_script) && memcmp(line, no_script, sizeof(no_script) - 1) == 0 &&
		    outq_peek(&l->out, r->pos, (size_t)r->len, &bytes) &&
		    throttle_is(buf_head(&bytes), buf_len(&bytes)) && copy->redirects++ < REDIRECTS_MAX;

	if (ours) {
		l->own_scripts &= (uint8_t)~OWN_SCRIPT_THROTTLE;
		wait_in(&copy->m->again, copy, buf_head(&bytes), buf_len(&bytes));
	}
	buf_release(&bytes);
	return ours;
}

/* A redirection in place of an answer: the copy waits to go elsewhere. False: it is none, or one too many. */
static bool redirected(struct request *r, struct link *l, const char *line, size_t len)
{
	struct copy *copy = (struct copy *)(intptr_t)r->arg;
	struct buf bytes = {0};
	struct redirect_to to;

	if (copy->redirects >= REDIRECTS_MAX || !redirect_possible(l) ||
	    !redirect_read(l, copy->cmd, copy->slot, line, len, &to))
		return false;
	if (!outq_peek(&l->out, r->pos, (size_t)r->len, &bytes)) {
		buf_release(&bytes);
		if (to.node)
			node_unref(&to.node);
		return false;
	}
	if (copy->at)
		node_unref(&copy->at);
	copy->at = to.node;
	copy->asking = to.asking;
	copy->redirects++;
	if (!to.node)
		copy->m->not_before_us = l->w->now_us + LATER_US;
	wait_in(&copy->m->again, copy, buf_head(&bytes), buf_len(&bytes));
	buf_release(&bytes);
	return true;
}

static void judge(struct copy *copy, const struct request *r, bool error)
{
	static struct log_limit errors, differences;
	struct worker *w = copy->m->w;
	const char *name = copy->m->up->conf->name;

	if (error) {
		counter_add(&w->counters.mirror_errors, 1);
		if (log_limit_pass(&errors))
			log_warn("Mirror %s refused a copy of %s %s: %.*s", name, copy->cmd->name, copy->key,
				 (int)strcspn(buf_head(&r->reply) + 1, " \r"), buf_head(&r->reply) + 1);
	}
	if (!copy->compare || buf_len(&r->reply) > MIRROR_COMPARE_MAX ||
	    mirror_same(copy->cmd, &copy->expected, &r->reply))
		return;
	counter_add(&w->counters.mirror_differences, 1);
	if (log_limit_pass(&differences))
		log_warn("Mirror %s answered %s %s otherwise", name, copy->cmd->name, copy->key);
}

void mirror_answered(struct request *r, const char *data, size_t len, struct link *l, bool done)
{
	struct copy *copy = (struct copy *)(intptr_t)r->arg;
	struct mirror *m = copy->m;
	size_t have = buf_len(&r->reply) - r->error_len;
	bool error = l->rf.type == '-' || l->rf.type == '!';

	/* One byte more than is compared, so that it shows. */
	if ((error || copy->compare) && have <= MIRROR_COMPARE_MAX)
		buf_put(&r->reply, data, len < MIRROR_COMPARE_MAX + 1 - have ? len : MIRROR_COMPARE_MAX + 1 - have);
	if (!done)
		return;
	/* What is in front of the reply to EXEC is the error that made it fail. */
	if (error && (redirected(r, l, buf_head(&r->reply), r->error_len > 0 ? r->error_len : buf_len(&r->reply)) ||
		      lacks_script(r, l, buf_head(&r->reply), buf_len(&r->reply)))) {
		left(m);
		return;
	}
	if (r->error_len > 0)
		buf_consume(&r->reply, r->error_len);
	if (error || !try_later(r, l)) {
		judge(copy, r, error);
		copy_free(copy);
	}
	left(m);
}

/* A copy whose link broke is not sent again: it may have been done, and others may have been done behind it. */
void mirror_lost_copy(struct request *r)
{
	struct copy *copy = (struct copy *)(intptr_t)r->arg;
	struct mirror *m = copy->m;

	drop(copy, "its connection was lost");
	left(m);
}

/* ---- life ---- */

static struct mirror *mirror_to(struct worker *w, struct upstream *up)
{
	struct mirror *m;

	LIST_EACH (pos, next, &w->mirrors) {
		m = container_of(pos, struct mirror, node);
		if (m->up == up)
			return m;
	}
	m = xcalloc(1, sizeof(*m));
	m->w = w;
	m->up = upstream_ref(up);
	list_init(&m->again);
	list_init(&m->waiting);
	list_init(&m->later);
	list_append(&w->mirrors, &m->node);
	return m;
}

static struct route *route_named(struct worker *w, const char *name)
{
	for (size_t i = 0; i < w->n_routes; i++)
		if (strcmp(w->routes[i].up->conf->name, name) == 0)
			return &w->routes[i];
	return NULL;
}

void mirror_take_routes(struct worker *w)
{
	w->mirroring = false;
	LIST_EACH (pos, next, &w->mirrors)
		container_of(pos, struct mirror, node)->wanted = false;
	for (size_t i = 0; i < w->n_routes; i++) {
		const char *name = w->routes[i].up->conf->mirror_to;
		struct route *to = *name ? route_named(w, name) : NULL;

		if (!to)
			continue;
		w->routes[i].mirror = mirror_to(w, to->up);
		w->routes[i].mirror->wanted = true;
		w->mirroring = true;
	}
}

void mirror_tick(struct worker *w)
{
	LIST_EACH (pos, next, &w->mirrors) {
		struct mirror *m = container_of(pos, struct mirror, node);

		give_due(m);
		if (m->wanted)
			flush(m);
		else if (m->n_on_way == 0)
			mirror_free(m);
	}
}

bool mirror_is_idle(const struct worker *w)
{
	for (const struct list *pos = w->mirrors.next; pos != &w->mirrors; pos = pos->next) {
		const struct mirror *m = container_of(pos, struct mirror, node);

		if (m->n_on_way > 0 || m->n_waiting > 0 || m->n_later > 0)
			return false;
	}
	return true;
}

void mirror_stop(struct worker *w)
{
	w->mirroring = false;
	LIST_EACH (pos, next, &w->mirrors)
		drop_waiting(container_of(pos, struct mirror, node));
}

void mirror_drop_all(struct worker *w)
{
	LIST_EACH (pos, next, &w->mirrors)
		mirror_free(container_of(pos, struct mirror, node));
}
