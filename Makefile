# Tenantry: `make demo` shows it, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
BUILD ?= build/$(VARIANT)
VARIANT ?= release
CC := gcc
VERSION := 0.1.0
# The catalog that the programs need: its newest migration.
CATALOG_FILES := $(sort $(wildcard migrations/catalog/*.sql))
CATALOG := $(firstword $(subst _, ,$(notdir $(lastword $(CATALOG_FILES)))))

PACKAGES := libuv libmicrohttpd libcurl libidn2 libpq rdkafka jansson openssl
CFLAGS_release := -O2 -g
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CFLAGS_tsan := -O1 -g -fsanitize=thread
CFLAGS_clang := -O1 -g
ifeq ($(VARIANT),clang)
CC := clang
endif
ifeq ($(VARIANT),tsan)
EXTRA_OBJECTS := $(BUILD)/tests/tsan/threads.o
EXTRA_FLAGS := -rdynamic
endif
WARNINGS := -Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wundef -Wformat=2 -Wmissing-prototypes

# Against what a defect of ours, or of a library, would be used for: see docs/security.md. Each where the compiler knows it.
# glibc's checks need optimization, and would hide from the sanitizers what they look for.
known = $(firstword $(foreach flag,$(1),$(shell printf '\043include <stdio.h>\n' | \
	$(CC) -O2 -Werror $(flag) -x c -c -o /dev/null - 2>/dev/null && echo $(flag))))
HARDENING = -fstack-protector-strong $(call known,-fstack-clash-protection) $(call known,-fcf-protection=full) $(CHECKED)
ifneq ($(filter release clang,$(VARIANT)),)
CHECKED = -U_FORTIFY_SOURCE $(call known,-D_FORTIFY_SOURCE=3 -D_FORTIFY_SOURCE=2)
endif

# Asked once, and only where something is built: the compiler may have to be installed first.
once = $(eval $(1) := $(2))$($(1))
ASKED_CFLAGS = $(call once,ASKED_CFLAGS,$(HARDENING) $(shell pkg-config --cflags $(PACKAGES)))
ASKED_LIBS = $(call once,ASKED_LIBS,$(shell pkg-config --libs $(PACKAGES)))
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -DTENANTRY_VERSION='"$(VERSION)"' -I. $(WARNINGS) $(CFLAGS_$(VARIANT)) -fPIE \
	$(ASKED_CFLAGS) $(CPPFLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now $(LDFLAGS)
LIBS = $(ASKED_LIBS) -lm

# What was made with other flags is made again.
FLAGS := $(BUILD)/flags
.PHONY: flags
$(FLAGS): flags
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(EXTRA_FLAGS) $(LIBS))' >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

COMMON := $(wildcard common/*/*.c)
SERVICES := $(notdir $(patsubst %/main.c,%,$(wildcard services/*/main.c)))
PROGRAMS := $(addprefix $(BUILD)/tenantry-,$(SERVICES)) $(BUILD)/tenantry
UNITS := $(wildcard tests/unit/test_*.c)
UNIT_PROGRAMS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(UNITS))

COMMON_OBJECTS := $(COMMON:%.c=$(BUILD)/%.o)
objects_of = $(patsubst %.c,$(BUILD)/%.o,$(wildcard $(1)/*.c))

PYTHON := /usr/bin/python3

.PHONY: all help demo down clean-data clean test test-long unit lint format bench programs prerequisites
all: prerequisites
	@$(MAKE) --no-print-directory -j$$(nproc) programs

programs: $(PROGRAMS) $(BUILD)/tests/tenantry-example $(BUILD)/tests/migrate-one \
	$(BUILD)/tests/read-stripe-events

prerequisites:
	@deploy/local/install.sh build

$(BUILD)/libtenantry.a: $(COMMON_OBJECTS)
	@rm -f $@ && ar rcs $@ $^

DRIVER ?= postgres

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make demo [DRIVER=supabase]  start everything on this machine and watch signups become tenants
demo:
	@case "$(DRIVER)" in postgres|supabase) ;; *) echo "DRIVER is postgres or supabase"; exit 2 ;; esac
	@deploy/local/install.sh build run demo sandbox
	@$(MAKE) --no-print-directory -s -j$$(nproc) programs
	@$(PYTHON) -m deploy.local.demo up --driver $(DRIVER)

## make down                    stop what the demo started; data stays
down:
	@$(PYTHON) -m deploy.local.demo down

## make clean-data              stop it and forget its data
clean-data:
	@$(PYTHON) -m deploy.local.demo forget

## make test                    everything CI runs, from a bare machine
test:
	@scripts/test

## make test-long [TESTS=..]     the files whose tests are shorter in `make test`, whole: all orders, more crashes and tenants
LONG_TESTS = $(shell grep -l TENANTRY_LONG tests/e2e/test_*.py)
test-long:
	@deploy/local/install.sh build run test
	@$(MAKE) --no-print-directory -s -j$$(nproc) VARIANT=asan programs
	@TENANTRY_LONG=1 TENANTRY_BUILD=$(CURDIR)/build/asan $(PYTHON) -m pytest -q $(or $(TESTS),$(LONG_TESTS))

## make lint                    format and names, cppcheck, ruff and types in Python
lint:
	@deploy/local/install.sh lint
	@scripts/lint

## make format                  put C and Python into the house's format
format:
	@deploy/local/install.sh lint
	@scripts/lint --format

## make clean                   remove what was built
clean:
	@rm -rf build

# All that a program is made of.
define link
@echo "  link $@"
@$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(EXTRA_FLAGS) -o $@ $(filter-out $(FLAGS),$^) $(LIBS)
endef

define SERVICE
$(BUILD)/tenantry-$(1): private LIBS += -lsystemd
$(BUILD)/tenantry-$(1): $(call objects_of,services/$(1)) $(EXTRA_OBJECTS) $(BUILD)/libtenantry.a $(FLAGS)
	$$(link)
endef
$(foreach service,$(SERVICES),$(eval $(call SERVICE,$(service))))

$(BUILD)/tenantry: private LIBS += -lunistring
$(BUILD)/tenantry: $(call objects_of,cli) $(EXTRA_OBJECTS) $(BUILD)/libtenantry.a $(FLAGS)
	$(link)

# A service as small as can be, to show that what is generic serves: tests/e2e/test_new_service.py.
$(BUILD)/tests/tenantry-example: private LIBS += -lsystemd
$(BUILD)/tests/tenantry-example: $(BUILD)/tests/service/main.o $(EXTRA_OBJECTS) $(BUILD)/libtenantry.a $(FLAGS)
	$(link)

# The migration engine on one database: tests/e2e/test_migration_engine.py.
$(BUILD)/tests/migrate-one: $(BUILD)/tests/engine/main.o $(EXTRA_OBJECTS) $(BUILD)/libtenantry.a $(FLAGS)
	$(link)

# What billing makes of Stripe's events: tests/e2e/test_billing_orders.py.
$(BUILD)/tests/read-stripe-events: $(BUILD)/tests/stripe/main.o $(EXTRA_OBJECTS) $(BUILD)/libtenantry.a $(FLAGS)
	$(link)

$(BUILD)/%.o: %.c $(FLAGS)
	@mkdir -p $(@D)
	@echo "  cc   $<"
	@$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# Embedded in it.
$(BUILD)/common/contracts/mails.o: $(wildcard templates/mail/*)
$(BUILD)/common/contracts/plans.o: templates/plans.json

# private: the file of flags, which it needs as well, must not come to another content for it.
$(BUILD)/common/service/service.o: private ALL_CFLAGS += -DTENANTRY_CATALOG='"$(CATALOG)"'
$(BUILD)/common/service/service.o: $(CATALOG_FILES)

# The simulation puts its own clock, timers and catalog under the saga engine: tests/unit/simulated_process.h.
comma := ,
$(BUILD)/tests/test_simulation: LINK_FLAGS := $(addprefix -Wl$(comma)--wrap=,clock_boot_ms crypto_random uv_timer_init \
	uv_timer_start uv_timer_stop uv_close pg_pool_exec pg_pool_is_up pg_rows_count pg_text pg_int pg_bool)

$(BUILD)/tests/%: tests/unit/%.c $(BUILD)/libtenantry.a $(FLAGS)
	@mkdir -p $(@D)
	@$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(LINK_FLAGS) -MMD -MP -o $@ $< $(BUILD)/libtenantry.a $(LIBS) $(shell pkg-config --libs cmocka)

-include $(shell find build -name '*.d' 2>/dev/null)

## make unit                    the unit tests, one line each; a failing one shows all it said
unit: $(UNIT_PROGRAMS)
	@for test in $^; do \
		if $$test >$$test.log 2>&1; then \
			printf '  ok   %s: %s passed\n' "$${test##*/}" "$$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test(s)\.$$/\1/p' $$test.log)"; \
		else \
			cat $$test.log; failed=1; \
		fi; \
	done; exit $${failed:-0}

## make fuzz [FUZZ_SECONDS=60]  libFuzzer with ASan and UBSan on each target; fuzz-short takes 3 s each
# What it finds stays in build/fuzz/.
FUZZ_SECONDS ?= 60
CFLAGS_fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
ifeq ($(VARIANT),fuzz)
CC := clang
endif
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: fuzz fuzz-short fuzz-all $(FUZZERS)
fuzz:
	@$(MAKE) --no-print-directory VARIANT=fuzz BUILD=build/fuzz fuzz-all

fuzz-short:
	@$(MAKE) --no-print-directory FUZZ_SECONDS=3 fuzz

fuzz-all: $(FUZZERS)

$(FUZZERS): fuzz_%: $(BUILD)/fuzz/fuzz_%
	@mkdir -p $(BUILD)/corpus/$*
	@if $< -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
		-artifact_prefix=$(BUILD)/$@- $(BUILD)/corpus/$* tests/fuzz/corpus/$* >$<.log 2>&1; then \
		printf '  ok   %s: %s inputs\n' $@ "$$(sed -n 's/^stat::number_of_executed_units: *//p' $<.log)"; \
	else \
		tail -60 $<.log; exit 1; \
	fi

$(BUILD)/fuzz/%: tests/fuzz/%.c $(BUILD)/libtenantry.a $(FLAGS)
	@mkdir -p $(@D)
	@$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -fsanitize=fuzzer -MMD -MP -o $@ $< $(BUILD)/libtenantry.a $(LIBS)

## make bench [BENCH=--long] [PEERS=DIR]    measure it beside the bare cost and other servers; writes bench/RESULTS.md
BENCHES := $(notdir $(basename $(wildcard bench/*.c)))
bench:
	@deploy/local/install.sh build run test
	@$(MAKE) --no-print-directory -s -j$$(nproc) programs $(addprefix $(BUILD)/bench/,$(BENCHES))
	@TENANTRY_BUILD=$(abspath $(BUILD)) $(PYTHON) -m bench.run --programs $(abspath $(BUILD))/bench $(if $(PEERS),--peers "$(PEERS)") $(BENCH)

$(addprefix $(BUILD)/bench/,$(BENCHES)): $(BUILD)/bench/%: bench/%.c $(FLAGS)
	@mkdir -p $(@D)
	@echo "  cc   $<"
	@$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -MMD -MP -o $@ $< $(LIBS)
