# Tenantry: `make demo` shows it, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
BUILD ?= build/$(VARIANT)
VARIANT ?= release
CC := gcc
VERSION := 0.1.0

PACKAGES := libuv libmicrohttpd libcurl libpq rdkafka jansson openssl
CFLAGS_release := -O2 -g
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CFLAGS_tsan := -O1 -g -fsanitize=thread
CFLAGS_clang := -O1 -g
ifeq ($(VARIANT),clang)
CC := clang
endif
WARNINGS := -Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wundef
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -DTENANTRY_VERSION='"$(VERSION)"' -I. $(WARNINGS) $(CFLAGS_$(VARIANT)) \
	-fstack-protector-strong $(shell pkg-config --cflags $(PACKAGES))
LIBS = $(shell pkg-config --libs $(PACKAGES)) -lm

COMMON := $(wildcard common/*/*.c)
SERVICES := $(notdir $(patsubst %/main.c,%,$(wildcard services/*/main.c)))
PROGRAMS := $(addprefix $(BUILD)/tenantry-,$(SERVICES)) $(BUILD)/tenantry
UNITS := $(wildcard tests/unit/test_*.c)
UNIT_PROGRAMS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(UNITS))

COMMON_OBJECTS := $(COMMON:%.c=$(BUILD)/%.o)
objects_of = $(patsubst %.c,$(BUILD)/%.o,$(wildcard $(1)/*.c))

PYTHON := /usr/bin/python3

.PHONY: all help demo down clean-data clean test unit e2e lint format bench programs prerequisites
all: prerequisites
	@$(MAKE) --no-print-directory -j$$(nproc) programs

programs: $(PROGRAMS)

prerequisites:
	@deploy/local/install.sh build

$(BUILD)/libtenantry.a: $(COMMON_OBJECTS)
	@rm -f $@ && ar rcs $@ $^

define SERVICE
$(BUILD)/tenantry-$(1): $(call objects_of,services/$(1)) $(BUILD)/libtenantry.a
	@echo "  link $$@"
	@$$(CC) $$(ALL_CFLAGS) -o $$@ $$^ $$(LIBS)
endef
$(foreach service,$(SERVICES),$(eval $(call SERVICE,$(service))))

$(BUILD)/tenantry: $(call objects_of,cli) $(BUILD)/libtenantry.a
	@echo "  link $@"
	@$(CC) $(ALL_CFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  cc   $<"
	@$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/tests/%: tests/unit/%.c $(BUILD)/libtenantry.a
	@mkdir -p $(@D)
	@$(CC) $(ALL_CFLAGS) -MMD -MP -o $@ $< $(BUILD)/libtenantry.a $(LIBS) $(shell pkg-config --libs cmocka)

-include $(shell find build -name '*.d' 2>/dev/null)
