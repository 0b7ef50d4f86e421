# SPDX-License-Identifier: BSD-2-Clause
# Keyweir. `make help` lists the targets. Plain `make` bootstraps: it runs autoreconf and configure when it must.

VARIANT ?= release
BUILD := build/$(VARIANT)
PYTHON ?= /usr/bin/python3
FUZZ_SECONDS ?= 600
ARGS ?=

# These install packages first and build by a make of their own: nothing to bootstrap yet.
ifeq ($(filter run setup% check% asan tsan fuzz lint bench% help,$(MAKECMDGOALS)),)
-include config.mk
endif

SOURCES := \
	src/admission.c \
	src/control.c \
	src/control_tokens.c \
	src/gen_key.c \
	src/reload.c \
	src/request.c \
	src/rewrap.c \
	src/rewrap_daemon.c \
	src/rewrap_key.c \
	src/server.c \
	src/snapshot.c \
	src/upstreams.c \
	src/worker.c \
	src/worker_routes.c \
	src/base/arena.c \
	src/base/buf.c \
	src/base/lock.c \
	src/base/log.c \
	src/base/mailbox.c \
	src/base/map.c \
	src/base/mem.c \
	src/base/outq.c \
	src/base/top_k.c \
	src/cache/blacklist.c \
	src/cache/chunks.c \
	src/cache/fifo.c \
	src/cache/flight.c \
	src/cache/item.c \
	src/cache/shard.c \
	src/cache/store.c \
	src/cache/store_land.c \
	src/cache/store_look.c \
	src/client/absent.c \
	src/client/big_keys.c \
	src/client/blocking.c \
	src/client/cache_cmd.c \
	src/client/client.c \
	src/client/client_admin.c \
	src/client/client_cmd.c \
	src/client/client_io.c \
	src/client/client_list.c \
	src/client/client_reply.c \
	src/client/client_timeout.c \
	src/client/client_tls.c \
	src/client/cluster_cmd.c \
	src/client/config_cmd.c \
	src/client/dispatch.c \
	src/client/events.c \
	src/client/fanout.c \
	src/client/forward.c \
	src/client/forward_run.c \
	src/client/hot_keys.c \
	src/client/hub.c \
	src/client/hub_message.c \
	src/client/info.c \
	src/client/join.c \
	src/client/key_names.c \
	src/client/key_report.c \
	src/client/keyweir_cmd.c \
	src/client/latency.c \
	src/client/limit.c \
	src/client/limit_charge.c \
	src/client/limit_lease.c \
	src/client/limit_stats.c \
	src/client/limit_upload.c \
	src/client/mirror.c \
	src/client/mirror_compare.c \
	src/client/mirror_rewrite.c \
	src/client/mirror_send.c \
	src/client/monitor.c \
	src/client/namespace_stats.c \
	src/client/near_fetch.c \
	src/client/near_last.c \
	src/client/near_look.c \
	src/client/near_many.c \
	src/client/near_wait.c \
	src/client/near_write.c \
	src/client/policy.c \
	src/client/redact.c \
	src/client/redirect.c \
	src/client/refusal.c \
	src/client/retry.c \
	src/client/scan.c \
	src/client/scripts.c \
	src/client/session.c \
	src/client/slowlog.c \
	src/client/stats.c \
	src/client/pubsub.c \
	src/client/subscribe.c \
	src/client/subscriptions.c \
	src/client/target.c \
	src/client/throttle.c \
	src/client/token_cmd.c \
	src/client/token_look.c \
	src/client/token_memo.c \
	src/client/token_write.c \
	src/client/tracking.c \
	src/client/tracking_names.c \
	src/client/transaction.c \
	src/client/unit.c \
	src/command/choice.c \
	src/command/keys.c \
	src/command/learn.c \
	src/command/table.c \
	src/net/addr.c \
	src/net/listener.c \
	src/net/systemd.c \
	src/net/tls.c \
	src/net/tls_why.c \
	src/net/transport.c \
	src/policy/buckets.c \
	src/policy/channel.c \
	src/policy/fix.c \
	src/policy/fix_values.c \
	src/policy/gcra.c \
	src/policy/glob.c \
	src/policy/leases.c \
	src/policy/limits.c \
	src/policy/jwt.c \
	src/policy/names.c \
	src/policy/namespace.c \
	src/policy/rewrite.c \
	src/policy/seal_args.c \
	src/policy/sliding.c \
	src/policy/token.c \
	src/policy/ttl.c \
	src/policy/seal.c \
	src/resp/errors.c \
	src/resp/inline.c \
	src/resp/reply_frame.c \
	src/resp/request_frame.c \
	src/resp/write.c \
	src/upstream/cluster.c \
	src/upstream/cluster_map.c \
	src/upstream/handshake.c \
	src/upstream/invalidation.c \
	src/upstream/link.c \
	src/upstream/link_io.c \
	src/upstream/link_tls.c \
	src/upstream/loaded.c \
	src/upstream/node.c \
	src/upstream/node_look.c \
	src/upstream/pool.c \
	src/upstream/probe.c \
	src/upstream/route.c \
	src/upstream/sentinel.c \
	src/upstream/shared_config.c \
	src/upstream/slot.c \
	src/upstream/talk.c \
	src/upstream/token_count.c \
	src/upstream/token_keeper.c \
	src/upstream/token_wire.c \
	src/upstream/topology.c \
	src/upstream/tracker.c \
	src/upstream/tracker_steps.c \
	src/upstream/tracking_wire.c \
	src/upstream/truth.c \
	src/upstream/upstream.c \
	src/upstream/watch.c \
	src/config/address.c \
	src/config/cache.c \
	src/config/check.c \
	src/config/check_encryption.c \
	src/config/check_limit.c \
	src/config/check_namespace.c \
	src/config/check_near_cache.c \
	src/config/check_tokens.c \
	src/config/check_upstream.c \
	src/config/dump.c \
	src/config/file.c \
	src/config/instance.c \
	src/config/load.c \
	src/config/problem.c \
	src/config/schema.c \
	src/config/set.c \
	src/config/suggest.c \
	src/config/text.c \
	src/config/url.c \
	src/config/value.c

UNIT_TESTS := $(sort $(wildcard tests/unit/test_*.c))
FUZZERS := $(sort $(wildcard tests/fuzz/fuzz_*.c))

OBJECTS := $(SOURCES:src/%.c=$(BUILD)/%.o) $(BUILD)/config/toml.o
BINARY := $(BUILD)/keyweir
UNIT_BINARIES := $(UNIT_TESTS:tests/unit/%.c=$(BUILD)/tests/%)
REPLAYS := $(FUZZERS:tests/fuzz/%.c=$(BUILD)/replay/%)

SAN_release :=
SAN_asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SAN_tsan := -fsanitize=thread
SAN_fuzz := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
FORTIFY_release := -D_FORTIFY_SOURCE=2
HARDEN := -fstack-protector-strong -fPIE $(FORTIFY_$(VARIANT)) $(SAN_$(VARIANT))
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -O2 -g $(WARNINGS) $(WERROR) $(HARDEN) -Isrc $(LIB_CFLAGS) $(CPPFLAGS) $(CFLAGS)
ALL_CXXFLAGS = -std=c++17 -O2 -g -Wall -Wextra $(WERROR) $(HARDEN) -Isrc $(TOML_CFLAGS) $(CPPFLAGS) $(CXXFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now $(SAN_$(VARIANT)) $(LDFLAGS)

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-7s %s\n'
endif

.PHONY: all run check check-long unit lint format asan tsan fuzz bench bench-instr bench-namespaces bench-hit-rate bench-near-cache install uninstall dist clean help \
	setup setup-test setup-bench test-binaries binary

all: binary ## build build/release/keyweir

binary: config.mk
	@$(MAKE) --no-print-directory $(BINARY)

configure: configure.ac
	$(say) AUTORECONF $@
	$(Q)autoreconf -f -i 2>&1 | grep -v '^$$' || true
	@test -x configure

config.mk: configure config.mk.in
	$(say) CONFIGURE $@
	$(Q)./configure $(CONFIGURE_ARGS) >build-configure.log || { cat build-configure.log; exit 1; }
	@rm -f build-configure.log

$(BINARY): $(OBJECTS) $(BUILD)/main.o
	$(say) LINK $@
	$(Q)$(CXX) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/%.o: src/%.c config.mk
	@mkdir -p $(@D)
	$(say) CC $<
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/%.o: src/%.cc config.mk
	@mkdir -p $(@D)
	$(say) CXX $<
	$(Q)$(CXX) $(ALL_CXXFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/tests/%: tests/unit/%.c $(OBJECTS)
	@mkdir -p $(@D)
	$(say) TEST $@
	$(Q)$(CC) $(ALL_CFLAGS) $(CHECK_CFLAGS) -MMD -MP -c -o $@.o $<
	$(Q)$(CXX) $(ALL_LDFLAGS) -o $@ $@.o $(OBJECTS) $(LIBS) $(CHECK_LIBS)

# A fuzz target as a plain program that replays its corpus.
$(BUILD)/replay/%: tests/fuzz/%.c tests/fuzz/replay.c $(OBJECTS)
	@mkdir -p $(@D)
	$(say) REPLAY $@
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@.o $<
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@-main.o tests/fuzz/replay.c
	$(Q)$(CXX) $(ALL_LDFLAGS) -o $@ $@.o $@-main.o $(OBJECTS) $(LIBS)

# The near-cache's memory alone, for tests/bench/bench-hit-rate.
$(BUILD)/hit_rate: tests/bench/hit_rate.c tests/bench/policies.c tests/bench/policies.h $(OBJECTS)
	$(say) BENCH $@
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@-policies.o tests/bench/policies.c
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@.o tests/bench/hit_rate.c
	$(Q)$(CXX) $(ALL_LDFLAGS) -o $@ $@.o $@-policies.o $(OBJECTS) $(LIBS) -lm

# The load of tests/bench/bench-near-cache, which shares nothing with Keyweir.
$(BUILD)/zipf_load: tests/bench/zipf_load.c
	@mkdir -p $(@D)
	$(say) BENCH $@
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $< $(ALL_LDFLAGS) -lm

-include $(OBJECTS:.o=.d) $(BUILD)/main.d

test-binaries: $(UNIT_BINARIES) $(REPLAYS)

setup: ## install the packages that building and running need (apt)
	@scripts/setup run

setup-test: ## install the packages that the tests need as well
	@scripts/setup test

setup-bench:
	@scripts/setup bench

run: setup ## build, and start Keyweir in front of a Redis; says what to try
	@$(MAKE) --no-print-directory all
	@scripts/run $(BINARY)

check: setup-test ## install what is missing, build with -Werror, run all tests
	@$(MAKE) --no-print-directory WERROR=-Werror binary
	@$(MAKE) --no-print-directory WERROR=-Werror test-binaries
	@tests/run --build $(BUILD) $(ARGS)

check-long: setup-test ## all tests, the long ones too
	@$(MAKE) --no-print-directory WERROR=-Werror binary
	@$(MAKE) --no-print-directory WERROR=-Werror test-binaries
	@tests/run --build $(BUILD) --long $(ARGS)

asan: setup-test ## all tests with AddressSanitizer and UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory VARIANT=asan binary
	@$(MAKE) --no-print-directory VARIANT=asan test-binaries
	@tests/run --build build/asan $(ARGS)

tsan: setup-test ## all tests with ThreadSanitizer
	@$(MAKE) --no-print-directory VARIANT=tsan binary
	@$(MAKE) --no-print-directory VARIANT=tsan test-binaries
	@tests/run --build build/tsan $(ARGS)

fuzz: setup-test ## libFuzzer on every target, FUZZ_SECONDS each
	@$(MAKE) --no-print-directory config.mk
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run

lint: setup-test ## style, static checks, man pages, scripts
	@$(MAKE) --no-print-directory WERROR=-Werror binary
	@tests/lint/all

format: ## clang-format everything
	@clang-format -i $$(git ls-files '*.c' '*.h' '*.cc')

bench: setup-bench all ## Keyweir, Redis, HAProxy and nutcracker side by side
	@tests/bench/bench $(BINARY)

bench-instr: setup-bench all ## instructions, system calls and mallocs for a forwarded GET
	@tests/bench/bench-instr $(BINARY)

bench-tokens: setup-bench all ## a million revoked tokens: memory, loading, CPU of a check beside EXISTS
	@tests/bench/bench-tokens $(BINARY)

bench-namespaces: setup-bench all ## CPU for a request in a namespace, and with sealed values
	@tests/bench/bench-namespaces $(BINARY)

bench-near-cache: setup-bench all ## the near-cache: hits beside Redis itself, a mixed load (ARGS=--quick)
	@$(MAKE) --no-print-directory $(BUILD)/zipf_load
	@tests/bench/bench-near-cache $(BINARY) $(BUILD)/zipf_load $(ARGS)

bench-hit-rate: setup-bench ## the near-cache's memory: hit rates beside other policies, cost of a hit
	@$(MAKE) --no-print-directory $(BUILD)/hit_rate
	@tests/bench/bench-hit-rate $(BUILD)/hit_rate

install: all ## install below DESTDIR and prefix
	$(INSTALL) -d $(DESTDIR)$(sbindir) $(DESTDIR)$(mandir)/man8 $(DESTDIR)$(mandir)/man5 \
		$(DESTDIR)$(sysconfdir)/keyweir $(DESTDIR)$(unitdir)
	$(INSTALL) -m 755 $(BINARY) $(DESTDIR)$(sbindir)/keyweir
	$(INSTALL) -m 644 man/keyweir.8 $(DESTDIR)$(mandir)/man8/keyweir.8
	$(INSTALL) -m 644 man/keyweir.toml.5 $(DESTDIR)$(mandir)/man5/keyweir.toml.5
	$(INSTALL) -m 644 systemd/keyweir.service systemd/keyweir.socket $(DESTDIR)$(unitdir)/
	test -e $(DESTDIR)$(sysconfdir)/keyweir/keyweir.toml || \
		$(INSTALL) -m 640 conf/keyweir.toml $(DESTDIR)$(sysconfdir)/keyweir/keyweir.toml

uninstall: ## remove what install put there, but the configuration
	rm -f $(DESTDIR)$(sbindir)/keyweir $(DESTDIR)$(mandir)/man8/keyweir.8 $(DESTDIR)$(mandir)/man5/keyweir.toml.5 \
		$(DESTDIR)$(unitdir)/keyweir.service $(DESTDIR)$(unitdir)/keyweir.socket

dist: configure ## a source tarball with configure in it
	git archive --prefix=keyweir-0.1.0/ --add-file=configure -o keyweir-0.1.0.tar.gz HEAD

clean: ## remove everything that was built
	rm -rf build config.mk config.log config.status configure autom4te.cache build-configure.log

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed 's/:.*## /\t/' | sort | expand -t 16
