/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The configuration: what the rest of the program reads.
 *
 * One table (options.def) says everything about each option; load.c walks the TOML document against it, check.c
 * looks at rules between options, dump.c prints it back.  The TOML library (C++) is seen by toml.cc alone.
 *
 * A struct config is built on the control thread, never changed afterwards, and read by every thread through the
 * snapshot.  It owns all its strings.  Durations are milliseconds, sizes are bytes.
 */
#ifndef KEYWEIR_CONFIG_H
#define KEYWEIR_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONFIG_DEFAULT_FILE "/etc/keyweir/keyweir.toml" /* read where it exists and nobody names another */

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };
enum upstream_mode { UPSTREAM_STANDALONE, UPSTREAM_SENTINEL, UPSTREAM_CLUSTER };
enum read_from { READ_FROM_MASTER, READ_FROM_PREFER_REPLICA, READ_FROM_REPLICA, READ_FROM_NEAREST };
enum mirror_what { MIRROR_WRITES, MIRROR_ALL };
enum client_cert { CLIENT_CERT_NONE, CLIENT_CERT_OPTIONAL, CLIENT_CERT_REQUIRED };
enum limit_on { LIMIT_COMMANDS, LIMIT_CONNECTIONS };
enum limit_per { LIMIT_PER_CLIENT_IP, LIMIT_PER_USER, LIMIT_PER_KEY, LIMIT_PER_NAMESPACE, LIMIT_PER_ALL };
enum limit_action { LIMIT_REJECT, LIMIT_DELAY };
enum limit_cost { LIMIT_COST_COMMANDS, LIMIT_COST_BYTES };
enum token_by { TOKEN_BY_TOKEN, TOKEN_BY_JTI };
enum token_failure { TOKEN_FAILURE_DENY, TOKEN_FAILURE_ALLOW };
enum on_failure { ON_FAILURE_ERROR, ON_FAILURE_STALE, ON_FAILURE_MISS };

/* A list of strings; items are owned by the struct that holds the list. */
struct string_list {
	char **items;
	size_t n;
};

bool string_list_same(const struct string_list *a, const struct string_list *b); /* in the same order */
void string_list_copy(struct string_list *to, const struct string_list *from);	 /* `to` is empty */
void string_list_clear(struct string_list *list);				 /* wiped: there may be secrets */

/* [server.tls]: what "tls:" listeners show, and want to see. */
struct server_tls_config {
	char *cert; /* file names; "": none */
	char *key;
	char *ca; /* of client certificates */
	enum client_cert client_cert;
};

struct server_config {
	struct string_list listen; /* "127.0.0.1:6380", "[::1]:6380", "unix:/path", "tls:127.0.0.1:6381" */
	bool cluster_emulation;
	bool strict; /* keys outside every namespace are refused */
	struct listener_config *listeners;
	size_t n_listeners;
	struct server_tls_config tls;
	int64_t workers; /* as written; 0: one for each CPU */
	int64_t max_clients;
	int64_t backlog;
	int64_t tcp_keepalive_ms;
	int64_t client_timeout_ms; /* 0: never */
	int64_t max_value_bytes;
	int64_t client_output_limit_bytes;
	int64_t shutdown_grace_ms;
};

/* url, taken apart; made by upstream_url_parse() from the option "url" (or $REDIS_URL). */
struct upstream_url {
	bool unix_socket;
	bool tls;   /* rediss:// */
	char *host; /* host name or address without brackets; the path of a Unix socket */
	int port;
	char *username; /* NULL: none; percent-decoded */
	char *password; /* NULL: none; percent-decoded; secret */
	int db;
};

/* [upstream.NAME.tls] */
struct upstream_tls_config {
	char *ca; /* file name; "": the system's store */
	char *cert;
	char *key;
	char *server_name; /* "": the host's name */
	bool verify;
};

/* [upstream.NAME.circuit_breaker] */
struct breaker_config {
	int64_t failures;
	int64_t window_ms;
	int64_t open_for_ms;
};

struct upstream_config {
	char *name; /* "main" */
	char *url;  /* as written, secret inside; for messages use url_masked */
	char *url_masked;
	struct upstream_url target;
	enum upstream_mode mode;
	int64_t pool_size;
	int64_t min_idle;
	int64_t pool_timeout_ms;
	int64_t connect_timeout_ms;
	int64_t read_timeout_ms;
	int64_t write_timeout_ms;
	int64_t reconnect_delay_ms;
	int64_t reconnect_delay_max_ms;
	int64_t max_retries;
	int64_t health_check_ms;
	char *password_file;	  /* "": none; its first line has become target.password */
	struct string_list nodes; /* sentinels or cluster seeds, "host:port" */
	char *service;		  /* sentinel: name of the master */
	char *sentinel_username;
	char *sentinel_password; /* secret; "": none */
	char *sentinel_password_file;
	enum read_from read_from;
	int64_t read_your_writes_ms;
	int64_t max_replica_lag_ms;
	char *mirror_to; /* name of another upstream; "": none */
	enum mirror_what mirror;
	int64_t mirror_percent;
	bool mirror_compare;
	struct upstream_tls_config tls;
	struct breaker_config circuit_breaker;
};

/* [namespace.NAME]: which keys belong to it and where they are kept. */
struct namespace_config {
	char *name;		  /* "default": what matches no other */
	struct string_list match; /* key prefixes; NAME + ":" when the file gives none; empty for "default" */
	char *upstream;		  /* name */
	size_t upstream_index;	  /* in config.upstreams */
	enum on_failure on_failure;
	char *prefix;	      /* what stands upstream in the place of match; "": names stay as they are */
	char *channel_prefix; /* the same for Pub/Sub channels */
	int64_t ttl_ms;	      /* 0: none */
	int64_t max_ttl_ms;   /* 0: any */
	double ttl_jitter;    /* 0.1: up to 10 % more or less */
	bool sliding;
	bool encrypt;
	bool encrypt_messages;
	bool readonly;
	bool hash_keys;
	bool near_cache;
	int64_t race_condition_ttl_ms; /* 0: off */
	int64_t stale_if_error_ms;
	bool has_tokens; /* it is made of [token_blacklist] */
};

/* [[server.listener]]: its clients see one namespace as a whole Redis. */
struct listener_config {
	char *address;
	char *namespace; /* name */
};

/* [near_cache] */
struct near_cache_config {
	int64_t max_memory_bytes; /* 0: there is none */
	int64_t max_value_bytes;  /* of a reply */
	int64_t max_ttl_ms;
	int64_t max_staleness_ms; /* servers without CLIENT TRACKING; 0: nothing of theirs is kept */
};

/* [encryption] */
struct encryption_config {
	struct string_list keys; /* "NAME:BASE64", secret; the first seals, all open; those of keys_file too */
	char *keys_file;	 /* "": none; a key a line */
	char *hash_key;		 /* BASE64 of 32 bytes, secret: for hash_keys; "": none */
	char *hash_key_file;
	bool accept_plaintext;
};

/* "1000/s" */
struct rate {
	int64_t count; /* 0: not given */
	int64_t period_s;
};

#define RATE_LIMITS_MAX 64

/* [[rate_limit]] */
struct rate_limit_config {
	char *name;
	enum limit_on on;
	struct string_list match;    /* prefixes of keys; none: all commands */
	struct string_list commands; /* names, and categories with @; none: all */
	enum limit_per per;
	struct rate rate;
	int64_t burst; /* as it counts: what may pass at once */
	enum limit_action action;
	int64_t max_delay_ms;
	bool shared;
	enum limit_cost cost;
	bool dry_run;
};

/* [token_blacklist]; its keys are a namespace, called TOKENS_NAMESPACE. */
#define TOKENS_NAMESPACE "token_blacklist"
struct token_blacklist_config {
	struct string_list prefixes; /* of keys; empty: there is no list */
	char *upstream;		     /* name */
	bool mirror;
	bool hash_tokens;
	enum token_by by;
	char *secret; /* "": none; that of secret_file too */
	char *secret_file;
	int64_t ttl_ms; /* 0: for ever */
	int64_t leeway_ms;
	enum token_failure on_failure;
	struct string_list tokens; /* secret */
	char *file;		   /* "": none */
};

struct log_config {
	enum log_level level;
	enum log_format format;
	char *file;	 /* "": stderr */
	int64_t slow_us; /* written as a duration, kept in microseconds; negative never, 0 logs every command */
};

/* One mistake or warning. line and col are 1-based; 0 when it has no place in a file (--set, $REDIS_URL). */
struct problem {
	char *file; /* file name, "--set", "-l", "-u" or "$REDIS_URL" */
	unsigned line;
	unsigned col;
	char *text;
};

struct problem_list {
	struct problem *items;
	size_t n;
};

struct config {
	struct server_config server;
	struct upstream_config *upstreams; /* [0] is always "main" */
	size_t n_upstreams;
	struct namespace_config *namespaces; /* by name, as the other upstreams are */
	size_t n_namespaces;
	struct near_cache_config near_cache;
	struct encryption_config encryption;
	struct rate_limit_config *limits;
	size_t n_limits;
	struct token_blacklist_config token_blacklist;
	struct log_config log;
	struct problem_list warnings; /* nothing wrong, but not what somebody thinks either */
};

/* Where a configuration comes from. Strings are borrowed for the call. */
struct config_source {
	const char *file;	   /* NULL: no file, built-in defaults */
	const char *const *listen; /* -l, replaces server.listen when n_listen > 0 */
	size_t n_listen;
	const char *url;	/* -u, replaces upstream.main.url; NULL: not given */
	const char *const *set; /* --set TABLE.KEY=VALUE; VALUE is a TOML value, or a bare string */
	size_t n_set;
	const char *log_level; /* -v: "debug", -q: "warn"; NULL: not given */
};

/*
 * Builds a configuration. Every mistake found is put into *problems, sorted by file, line and column.
 * Returns the configuration (the caller frees it with config_free) or NULL when there is any problem.
 * Reads the environment for $REDIS_URL and ${NAME}, and files for *_file options.
 */
struct config *config_load(const struct config_source *source, struct problem_list *problems)
	__attribute__((warn_unused_result));

/* Frees *config (secrets wiped first) and sets it to NULL. NULL inside is fine. */
void config_free(struct config **config);

/* "FILE:LINE:COL: text", or "FILE: text" when it has no place. The caller frees it. */
char *problem_format(const struct problem *p);

/* Prints each in a line. */
void problems_print(const struct problem_list *problems, FILE *out);
void problems_free(struct problem_list *problems);

/* Prints the whole effective configuration as TOML, defaults included, secrets masked. */
void config_dump(const struct config *config, FILE *out);

/* Prints the option list in mdoc, for keyweir.toml(5) (hidden command line option --options). */
void config_print_options(FILE *out);

/* Takes a redis://, rediss:// or unix:// URL apart. Returns NULL, or a static sentence that says what is wrong with it.
 */
const char *upstream_url_parse(const char *url, struct upstream_url *target) __attribute__((warn_unused_result));
void upstream_url_fini(struct upstream_url *target);

#endif
