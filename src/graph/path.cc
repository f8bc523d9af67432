#include "graph/path.h"

#include <algorithm>

#include "py/containers.h"
#include "py/object.h"

namespace nnx_wrappers::graph {

std::string to_string(const Path& path) {
  if (path.empty()) return "(root)";
  std::string text;
  for (const nb::object& key : path) {
    if (!text.empty()) text += '/';
    text += py::utf8(key);
  }
  return text;
}

bool begins_with(const Path& path, const Path& prefix) {
  if (path.size() < prefix.size()) return false;
  return std::equal(
      prefix.begin(), prefix.end(), path.begin(),
      [](const nb::object& left, const nb::object& right) { return left.equal(right); });
}

nb::tuple to_tuple(const Path& path) {
  nb::list keys;
  for (const nb::object& key : path) keys.append(key);
  return nb::tuple(keys);
}

Path with_collection(nb::handle collection, const Path& path) {
  Path full{nb::borrow(collection)};
  full.insert(full.end(), path.begin(), path.end());
  return full;
}

std::string to_lines(const std::vector<Path>& paths) {
  std::string text;
  for (const Path& path : paths) text += "\n  - " + to_string(path);
  return text;
}

bool insert_nested(nb::dict root, const Path& path, nb::handle value) {
  nb::dict level = std::move(root);
  // The first missing level is attached at the end, so that a failure changes nothing.
  nb::dict attach_to;
  nb::object attach_key;
  nb::object attach_value;
  for (size_t i = 0; i + 1 < path.size(); ++i) {
    nb::object next = py::dict_get(level, path[i]);
    if (next.is_valid() && PyDict_CheckExact(next.ptr()) == 0) return false;
    if (!next.is_valid()) {
      next = nb::dict();
      if (attach_key.is_valid()) {
        level[path[i]] = next;
      } else {
        attach_to = level;
        attach_key = path[i];
        attach_value = next;
      }
    }
    level = nb::borrow<nb::dict>(next);
  }
  if (py::dict_get(level, path.back()).is_valid()) return false;
  level[path.back()] = value;
  if (attach_key.is_valid()) attach_to[attach_key] = attach_value;
  return true;
}

}  // namespace nnx_wrappers::graph
