// Paths into a module graph or a tree of variables: the keys from the root on.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <vector>

namespace nnx_wrappers::graph {

namespace nb = nanobind;

// The keys are str or int objects.
using Path = std::vector<nb::object>;

// "dense/kernel", "layers/0/scale"; "(root)" for the empty path.
std::string to_string(const Path& path);

// True if `prefix` is the path itself or leads to it. Keys are compared by Python's `==`.
bool begins_with(const Path& path, const Path& prefix);

// The path as a Python tuple.
nb::tuple to_tuple(const Path& path);

// The path of a variable among the collections: the collection, then the path in it.
Path with_collection(nb::handle collection, const Path& path);

// A line for each path, with "\n  - " in front.
std::string to_lines(const std::vector<Path>& paths);

// Inserts `value` into nested dicts and makes the levels that are missing. Returns false, and
// changes nothing, if there is a value at the path or on the way to it, or a level at the path.
bool insert_nested(nb::dict root, const Path& path, nb::handle value);

}  // namespace nnx_wrappers::graph
