// Paths into a module graph or a tree of variables: keys from the root.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <vector>

namespace nnx_wrappers::graph {

namespace nb = nanobind;

// Keys are str or int objects, owned.
using Path = std::vector<nb::object>;

// "dense/kernel", "layers/0/scale"; "(root)" for the empty path.
std::string to_string(const Path& path);

// True if `prefix` is the path or leads to it. Keys are compared as Python compares them.
bool begins_with(const Path& path, const Path& prefix);

// The path as a Python tuple.
nb::tuple to_tuple(const Path& path);

// One path a line, each after "\n  - ".
std::string to_lines(const std::vector<Path>& paths);

// Puts `value` into nested dicts, making the levels that are missing. Returns
// false, and changes nothing, if the path or a prefix of it already holds a
// value, or holds a level where a value should go.
bool insert_nested(nb::dict root, const Path& path, nb::handle value);

}  // namespace nnx_wrappers::graph
