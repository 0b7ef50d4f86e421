/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages on their way from the hub to its readers. Mostly all see the same; where namespaces rename channels or keys,
 * or seal messages, what a reader sees hangs on the name that it subscribed by and on its view.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "client/hub_private.h"
#include "policy/channel.h"
#include "policy/glob.h"
#include "resp/write.h"

#define FORMS_KEPT 8

/* One from Redis. Borrowed. */
struct heard {
	const struct channel *ch;
	const char *frame;
	size_t frame_len;
	struct reply_item word;
	struct reply_item channel; /* it was published to */
	struct reply_item payload;
	enum channel_kind kind;
	struct rcbuf *whole; /* the frame as it is, when somebody sees it so */
	struct buf opened;   /* the payload, once somebody has asked for it */
	enum { NOT_ASKED, OPENED, BROKEN } open;
};

/* How those see it who share these three. */
struct form {
	struct view view;
	const struct alias *alias;
	struct rcbuf *rb; /* NULL: not at all */
};

struct forms {
	struct form items[FORMS_KEPT];
	unsigned n; /* made so far; the last ones are kept */
};

struct delivery {
	struct client *client;
	struct rcbuf *rb; /* a reference */
};

/* The frame behind its first byte is the same in both protocols. */
static void distribute_same(struct hub *hub, struct channel *ch, const char *frame, size_t len)
{
	struct rcbuf *rb = rcbuf_new(frame, len);

	if (!rb)
		return;
	LIST_EACH (pos, next, &ch->subs) {
		struct sub *sub = container_of(pos, struct sub, in_channel);

		/* A message is larger than 1 KB, or it is copied: its first byte goes alone either way. */
		client_push_message(sub->client, rb);
		counter_add(&hub->w->counters.messages, 1);
	}
	rcbuf_unref(rb);
}

/* ---- how it is seen ---- */

static bool parse(struct heard *m)
{
	struct reply_cursor cur = {m->frame, m->frame + m->frame_len};
	struct reply_item head, name;

	if (!reply_cursor_next(&cur, &head) || !reply_cursor_next(&cur, &m->word) || !reply_cursor_next(&cur, &name))
		return false;
	m->channel = name;
	if (m->ch->kind == HUB_PATTERN && !reply_cursor_next(&cur, &m->channel))
		return false;
	if (!reply_cursor_next(&cur, &m->payload))
		return false;
	m->kind = channel_kind(m->channel.text, m->channel.len);
	return m->channel.type == '$' && m->payload.type == '$' && m->payload.number >= 0;
}

static bool is_text(const struct buf *b, const char *text, size_t len)
{
	return buf_len(b) == len && (len == 0 || memcmp(buf_head(b), text, len) == 0);
}

/* The channel's name for the client, into out; false: it does not hear this one. */
static bool see_channel(const struct heard *m, const struct view *v, const struct alias *alias, struct buf *out)
{
	const struct channel *ch = m->ch;
	const char *name = alias ? alias->text : ch->name;
	size_t len = alias ? alias->len : ch->name_len;

	if (ch->kind != HUB_PATTERN) {
		buf_put(out, name, len);
		return channel_in_reach(v, ch->name, ch->name_len);
	}
	if (!channel_back_put(v, m->channel.text, m->channel.len, out))
		return false;
	/* Redis has matched other names than the client means. */
	return (!alias && is_text(out, m->channel.text, m->channel.len)) ||
	       glob_match(name, len, buf_head(out), buf_len(out));
}

static bool open_payload(struct worker *w, struct heard *m)
{
	static struct log_limit limit;
	enum open_status status;

	if (m->open != NOT_ASKED)
		return m->open == OPENED;
	status = message_open(w->snapshot->holder->keyring, m->channel.text, m->channel.len, m->payload.text,
			      m->payload.len, &m->opened);
	m->open = status == OPEN_BROKEN ? BROKEN : OPENED;
	if (m->open == OPENED)
		return true;
	counter_add(&w->counters.messages_broken, 1);
	if (log_limit_pass(&limit))
		log_warn("A message was dropped: its channel's messages are sealed, and it does not open");
	return false;
}

/* The message for the client, who calls its channel so; what is made for it is in room. */
static bool see_payload(struct worker *w, struct heard *m, const struct view *v, const struct buf *channel,
			struct buf *room, struct reply_item *out)
{
	*out = m->payload;
	if (m->kind == CHANNEL_KEYEVENT) {
		if (!channel_key_back_put(v, m->payload.text, m->payload.len, room))
			return false;
		out->text = buf_head(room);
		out->len = buf_len(room);
	} else if (channel_seals(v, buf_head(channel), buf_len(channel))) {
		if (!open_payload(w, m))
			return false;
		out->text = buf_head(&m->opened);
		out->len = buf_len(&m->opened);
	}
	return true;
}

static struct rcbuf *put_together(struct heard *m, const struct alias *alias, const struct buf *channel,
				  const struct reply_item *payload)
{
	bool pattern = m->ch->kind == HUB_PATTERN;
	struct buf b = {0};
	struct rcbuf *rb;

	if (!alias && is_text(channel, m->channel.text, m->channel.len) && payload->text == m->payload.text) {
		if (!m->whole)
			m->whole = rcbuf_new(m->frame, m->frame_len);
		return m->whole ? rcbuf_ref(m->whole) : NULL;
	}
	if (!buf_reserve(&b, m->frame_len + payload->len))
		return NULL;
	resp_array(&b, pattern ? 4 : 3);
	resp_bulk(&b, m->word.text, m->word.len);
	if (pattern && alias)
		resp_bulk(&b, alias->text, alias->len);
	else if (pattern)
		resp_bulk(&b, m->ch->name, m->ch->name_len);
	resp_bulk(&b, buf_head(channel), buf_len(channel));
	resp_bulk(&b, payload->text, payload->len);
	rb = rcbuf_new(buf_head(&b), buf_len(&b));
	buf_release(&b);
	return rb;
}

static struct rcbuf *make_form(struct worker *w, struct heard *m, const struct view *v, const struct alias *alias)
{
	struct buf channel = {0}, room = {0};
	struct reply_item payload;
	struct rcbuf *rb = NULL;

	if (see_channel(m, v, alias, &channel) && see_payload(w, m, v, &channel, &room, &payload))
		rb = put_together(m, alias, &channel, &payload);
	buf_release(&channel);
	buf_release(&room);
	return rb;
}

/* One that moves still hears of names as they were. */
static struct view view_of(const struct sub *sub)
{
	const struct client *c = sub->client;
	const struct shared_config *before = c->w->hub->before;

	if (!sub->to || !before)
		return c->view;
	return (struct view){before->namespaces,
			     c->bound_name ? namespaces_named(before->namespaces, c->bound_name) : NULL};
}

static struct rcbuf *form_for(struct forms *forms, struct heard *m, const struct sub *sub)
{
	struct view v = view_of(sub);
	unsigned n = forms->n < FORMS_KEPT ? forms->n : FORMS_KEPT;
	struct form *f;

	for (unsigned i = 0; i < n; i++) {
		f = &forms->items[i];
		if (f->view.bound == v.bound && f->view.all == v.all && alias_is_same(f->alias, sub->alias))
			return f->rb;
	}
	f = &forms->items[forms->n++ % FORMS_KEPT];
	rcbuf_unref(f->rb);
	*f = (struct form){v, sub->alias, make_form(sub->client->w, m, &v, sub->alias)};
	return f->rb;
}

/* ---- handing on ---- */

static void distribute_forms(struct hub *hub, struct heard *m, const struct channel *ch)
{
	struct delivery *all = xcalloc(ch->n_subs, sizeof(*all));
	struct forms forms = {0};
	size_t n = 0;

	LIST_EACH (pos, next, &ch->subs) {
		struct sub *sub = container_of(pos, struct sub, in_channel);
		struct rcbuf *rb = form_for(&forms, m, sub);

		if (rb)
			all[n++] = (struct delivery){sub->client, rcbuf_ref(rb)};
	}
	/* A push may close its client, and end all that it has subscribed to: the list is not looked at any more. */
	for (size_t i = 0; i < n; i++) {
		client_push_message(all[i].client, all[i].rb);
		counter_add(&hub->w->counters.messages, 1);
		rcbuf_unref(all[i].rb);
	}
	for (unsigned i = 0; i < FORMS_KEPT; i++)
		rcbuf_unref(forms.items[i].rb);
	free(all);
}

void hub_distribute(struct hub *hub, struct channel *ch, const char *frame, size_t len)
{
	struct heard m = {.ch = ch, .frame = frame, .frame_len = len};

	if (ch->n_aliases == 0 && !namespaces_active(hub->w->snapshot->holder->namespaces)) {
		distribute_same(hub, ch, frame, len);
		return;
	}
	if (ch->n_subs > 0 && parse(&m))
		distribute_forms(hub, &m, ch);
	rcbuf_unref(m.whole);
	buf_release(&m.opened);
}
