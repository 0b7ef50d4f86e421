/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line: options, subcommands, exit statuses. Everything else is built by control_run(). */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "command/command.h"
#include "config/config.h"
#include "control.h"
#include "gen_key.h"
#include "keyweir_version.h"
#include "rewrap.h"

#define DEFAULT_FILE CONFIG_DEFAULT_FILE
#define LIST_MAX     64

enum { EXIT_OK = 0, EXIT_RUNTIME = 1, EXIT_USAGE = 2, EXIT_CONFIG = 78 };
enum { OPT_DUMP = 256, OPT_SET, OPT_OPTIONS };
enum action { ACTION_RUN, ACTION_TEST, ACTION_DUMP };

struct arguments {
	enum action action;
	struct config_source source;
	const char *listen[LIST_MAX];
	const char *set[LIST_MAX];
};

static const char usage_text[] =
	"Usage: keyweir [-c FILE] [-l ADDR]... [-u URL] [--set TABLE.KEY=VALUE]... [-v|-q]\n"
	"       keyweir -t | --test     check the configuration; exit 78 when it has mistakes\n"
	"       keyweir --dump          print the whole effective configuration\n"
	"       keyweir -V | -h\n"
	"\n"
	"  -c FILE        configuration (default: " DEFAULT_FILE ", where it exists)\n"
	"  -l ADDR        listen here instead: 127.0.0.1:6380, [::1]:6380, unix:/path, tls:127.0.0.1:6381\n"
	"  -u URL         the Redis to stand in front of: redis://host:6379/0, rediss://host, unix:///path\n"
	"  --set T.K=V    one option, as in the file\n"
	"  -v, -q         log more, or only warnings\n"
	"\n"
	"Subcommands, keyweir NAME ...:\n";
static const char see_also[] = "See keyweir(8) and keyweir.toml(5).\n";

static const struct subcommand {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the name; returns the exit status */
	const char *help;
} subcommands[] = {
	{"gen-key", gen_key, "[NAME]: print a new key for [encryption] keys"},
	{"rewrap", rewrap, "[-c FILE] [--from CURSOR] [--address ADDR] NAMESPACE: seal all values with the first key"},
};
#define N_SUBCOMMANDS (sizeof(subcommands) / sizeof(*subcommands))

static void usage(void)
{
	fputs(usage_text, stdout);
	for (size_t i = 0; i < N_SUBCOMMANDS; i++)
		printf("  %-14s %s\n", subcommands[i].name, subcommands[i].help);
	fputs(see_also, stdout);
}

static const struct option long_options[] = {
	{"config", required_argument, NULL, 'c'},
	{"listen", required_argument, NULL, 'l'},
	{"url", required_argument, NULL, 'u'},
	{"set", required_argument, NULL, OPT_SET},
	{"verbose", no_argument, NULL, 'v'},
	{"quiet", no_argument, NULL, 'q'},
	{"test", no_argument, NULL, 't'},
	{"dump", no_argument, NULL, OPT_DUMP},
	{"options", no_argument, NULL, OPT_OPTIONS},
	{"version", no_argument, NULL, 'V'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static bool push(const char **list, size_t *n, const char *value)
{
	if (*n == LIST_MAX) {
		fprintf(stderr, "keyweir: too many options\n");
		return false;
	}
	list[(*n)++] = value;
	return true;
}

/* Returns -1 to go on, or an exit status. */
static int parse_option(int opt, struct arguments *args)
{
	switch (opt) {
	case 'c':
		args->source.file = optarg;
		return -1;
	case 'l':
		return push(args->listen, &args->source.n_listen, optarg) ? -1 : EXIT_USAGE;
	case 'u':
		args->source.url = optarg;
		return -1;
	case OPT_SET:
		return push(args->set, &args->source.n_set, optarg) ? -1 : EXIT_USAGE;
	case 'v':
		args->source.log_level = "debug";
		return -1;
	case 'q':
		args->source.log_level = "warn";
		return -1;
	case 't':
		args->action = ACTION_TEST;
		return -1;
	case OPT_DUMP:
		args->action = ACTION_DUMP;
		return -1;
	case OPT_OPTIONS:
		config_print_options(stdout);
		return EXIT_OK;
	case 'V':
		printf("keyweir %s\n", KEYWEIR_VERSION);
		return EXIT_OK;
	case 'h':
		usage();
		return EXIT_OK;
	default:
		fputs("Try 'keyweir -h'.\n", stderr);
		return EXIT_USAGE;
	}
}

static int parse_arguments(int argc, char **argv, struct arguments *args)
{
	int opt, status;

	while ((opt = getopt_long(argc, argv, "c:l:u:vqtVh", long_options, NULL)) != -1) {
		status = parse_option(opt, args);
		if (status >= 0)
			return status;
	}
	if (optind < argc) {
		fprintf(stderr, "keyweir: what is '%s'? Try 'keyweir -h'.\n", argv[optind]);
		return EXIT_USAGE;
	}
	args->source.listen = args->listen;
	args->source.set = args->set;
	if (!args->source.file && access(DEFAULT_FILE, F_OK) == 0)
		args->source.file = DEFAULT_FILE;
	return -1;
}

/* Takes config over, as test() does. */
static int run(struct config *config, const struct config_source *source)
{
	struct shared_config *holder;
	char why[512];

	if (!log_configure((int)config->log.level, config->log.format == LOG_FORMAT_JSON, config->log.file)) {
		fprintf(stderr, "keyweir: can't open the log file %s: %s\n", config->log.file, strerror(errno));
		config_free(&config);
		return EXIT_RUNTIME;
	}
	holder = shared_config_new(config, why, sizeof(why));
	if (holder)
		return control_run(holder, source);
	log_error("%s", why);
	return EXIT_CONFIG;
}

static int test(struct config *config, const struct config_source *source)
{
	struct shared_config *holder;
	char why[512];

	problems_print(&config->warnings, stderr);
	holder = shared_config_new(config, why, sizeof(why));
	if (!holder) {
		fprintf(stderr, "keyweir: %s\n", why);
		return EXIT_CONFIG;
	}
	printf("%s: the configuration is fine\n", source->file ? source->file : "built-in defaults");
	shared_config_unref(&holder);
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	struct arguments args = {.action = ACTION_RUN};
	struct problem_list problems = {0};
	struct config *config;
	int status;

	if (sodium_init() < 0) {
		fprintf(stderr, "keyweir: no randomness from the system\n");
		return EXIT_RUNTIME;
	}
	for (size_t i = 0; argc > 1 && i < N_SUBCOMMANDS; i++)
		if (strcmp(argv[1], subcommands[i].name) == 0)
			return subcommands[i].run(argc - 1, argv + 1);
	status = parse_arguments(argc, argv, &args);
	if (status >= 0)
		return status;
	command_init();
	/* Buffers of large requests come and go: not each time to the kernel and back with all its page faults. */
	mallopt(M_MMAP_THRESHOLD, 4 << 20);
	mallopt(M_TRIM_THRESHOLD, 16 << 20);
	config = config_load(&args.source, &problems);
	if (!config) {
		problems_print(&problems, stderr);
		problems_free(&problems);
		return EXIT_CONFIG;
	}
	switch (args.action) {
	case ACTION_RUN:
		return run(config, &args.source);
	case ACTION_TEST:
		return test(config, &args.source);
	default:
		problems_print(&config->warnings, stderr);
		config_dump(config, stdout);
		config_free(&config);
		return EXIT_OK;
	}
}
