/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer target: any bytes as a configuration file, and as the value of some --set. A configuration that is taken
 * must survive being dumped and read back: the second dump is the first. (But masked keys are none.)
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/load.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static char *dump(const struct config *config, size_t *len)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, len);

	assert(out);
	config_dump(config, out);
	fclose(out);
	return text;
}

static void read_back(const struct config *config)
{
	static const struct config_source source = {.file = "dump"};
	struct problem_list problems = {0};
	size_t len, again_len;
	char *text = dump(config, &len), *again;
	struct config *copy = config_load_buffer(&source, text, len, &problems);

	if (!copy)
		problems_print(&problems, stderr);
	assert(copy);
	again = dump(copy, &again_len);
	assert(len == again_len && memcmp(text, again, len) == 0);
	free(again);
	free(text);
	config_free(&copy);
}

static void load(const struct config_source *source, const char *text, size_t len)
{
	struct problem_list problems = {0};
	struct config *config = config_load_buffer(source, text, len, &problems);

	assert((config == NULL) == (problems.n > 0));
	if (config && config->encryption.keys.n == 0 && !*config->encryption.hash_key)
		read_back(config);
	config_free(&config);
	problems_free(&problems);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static const char *const paths[] = {"server.listen=",
					    "upstream.main.url=",
					    "upstream.main.nodes=",
					    "namespace.x.match=",
					    "namespace.x.ttl_jitter=",
					    "server.listener=",
					    "log.file=",
					    "log.slow=",
					    ""};
	struct config_source source = {.file = "fuzz.toml"};

	unsetenv("REDIS_URL");
	setenv("FUZZ", "\xc3\xa4 ${x} \"\\", 1);
	/* Files of the machine are not what is tested. */
	if (memmem(data, size, "_file", 5) || (memmem(data, size, "cache", 5) && memmem(data, size, "from", 4)) ||
	    memmem(data, size, "\\u", 2) || memmem(data, size, "\\U", 2))
		return 0;
	load(&source, (const char *)data, size);
	source.file = NULL;
	source.n_set = 1;
	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		char *set = NULL;

		if (asprintf(&set, "%s%.*s", paths[i], (int)size, (const char *)data) < 0)
			abort();
		source.set = (const char *const[]){set};
		load(&source, NULL, 0);
		free(set);
	}
	return 0;
}
