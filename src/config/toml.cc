/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one C++ file: toml++ behind the C functions of toml.h.
 *
 * toml++ is used with exceptions and as a shared library, as Debian builds it. What can throw stands in a try whose
 * catch (...) ends here; the rest is noexcept. A document lives while the configuration is loaded, no longer.
 */
#include <cstdio>
#include <new>
#include <string>
#include <string_view>

#include <sodium.h>
#include <toml++/toml.h>

#include "config/toml.h"

struct toml_doc {
	toml::table root;
};

static const toml::node *inside(const struct toml_node *node) noexcept
{
	return reinterpret_cast<const toml::node *>(node);
}

static const struct toml_node *outside(const toml::node *node) noexcept
{
	return reinterpret_cast<const struct toml_node *>(node);
}

static struct toml_position position(const toml::source_region &region) noexcept
{
	return {region.begin.line, region.begin.column};
}

static void fail(struct toml_error *error, struct toml_position at, std::string_view text) noexcept
{
	error->at = at;
	snprintf(error->text, sizeof(error->text), "%.*s", static_cast<int>(text.size()), text.data());
}

/* Passwords may stand in any string. The parser bounds the depth (256). */
static void wipe(toml::node &node) noexcept
{
	if (auto *table = node.as_table()) {
		for (auto &&[key, value] : *table)
			wipe(value);
	} else if (auto *array = node.as_array()) {
		for (auto &&value : *array)
			wipe(value);
	} else if (auto *string = node.as_string()) {
		sodium_memzero(string->get().data(), string->get().size());
	}
}

extern "C" {

struct toml_doc *toml_parse(const char *text, size_t len, struct toml_error *error) noexcept
{
	try {
		return new toml_doc{toml::parse(std::string_view(text, len))};
	} catch (const toml::parse_error &e) {
		fail(error, position(e.source()), e.description());
	} catch (const std::bad_alloc &) {
		fail(error, {0, 0}, "out of memory");
	} catch (...) {
		fail(error, {0, 0}, "the TOML library failed");
	}
	return nullptr;
}

void toml_free(struct toml_doc **doc) noexcept
{
	if (*doc)
		wipe((*doc)->root);
	delete *doc;
	*doc = nullptr;
}

const struct toml_node *toml_root(const struct toml_doc *doc) noexcept
{
	return outside(&doc->root);
}

enum toml_type toml_type_of(const struct toml_node *node) noexcept
{
	switch (inside(node)->type()) {
	case toml::node_type::table:
		return TOML_TABLE;
	case toml::node_type::array:
		return TOML_ARRAY;
	case toml::node_type::string:
		return TOML_STRING;
	case toml::node_type::integer:
		return TOML_INTEGER;
	case toml::node_type::floating_point:
		return TOML_FLOAT;
	case toml::node_type::boolean:
		return TOML_BOOLEAN;
	default:
		return TOML_DATE;
	}
}

struct toml_position toml_position_of(const struct toml_node *node) noexcept
{
	return position(inside(node)->source());
}

const char *toml_string(const struct toml_node *node, size_t *len) noexcept
{
	const std::string &s = inside(node)->as_string()->get();

	*len = s.size();
	return s.c_str();
}

int64_t toml_integer(const struct toml_node *node) noexcept
{
	return inside(node)->as_integer()->get();
}

double toml_float(const struct toml_node *node) noexcept
{
	return inside(node)->as_floating_point()->get();
}

bool toml_boolean(const struct toml_node *node) noexcept
{
	return inside(node)->as_boolean()->get();
}

size_t toml_size(const struct toml_node *array) noexcept
{
	return inside(array)->as_array()->size();
}

const struct toml_node *toml_at(const struct toml_node *array, size_t i) noexcept
{
	return outside(inside(array)->as_array()->get(i));
}

void toml_each(const struct toml_node *table, toml_each_fn fn, void *arg) noexcept
{
	for (auto &&[key, value] : *inside(table)->as_table()) {
		std::string_view name = key.str();

		fn(name.data(), name.size(), position(key.source()), outside(&value), arg);
	}
}
}
