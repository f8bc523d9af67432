// Guards: each remembers the state of one object, and tells whether it is still the same. A
// GuardRecorder (guard_recorder.h) makes them.
//
// A guard may borrow its object. A GuardSet compares guards in the order in which they were made,
// so the guards before it have found the object where it was.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "graph/pin.h"

namespace nnx_wrappers::graph {

namespace nb = nanobind;

class Guard {
 public:
  // `path` says where the object is, as the user's code would write it: "config.layers[0]".
  explicit Guard(std::string path) : path_(std::move(path)) {}
  virtual ~Guard() = default;
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  // True if the object is unchanged. Runs no user code, and allocates no object that the garbage
  // collector tracks.
  virtual bool holds() = 0;

  // The path of the part that has changed, for a message. Only after `holds` has returned false.
  virtual std::string changed_part() const { return path_; }

  // The number of comparisons that it makes.
  virtual size_t size() const { return 1; }

  // True if it notices also a change that was undone before the comparison.
  virtual bool sees_every_change() const { return false; }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class GuardSet {
 public:
  void add(std::unique_ptr<Guard> guard) { guards_.push_back(std::move(guard)); }

  // Adds a guard of the meshes that are entered by `with mesh:`.
  void depend_on_entered_meshes();

  // The path of the first part that has changed; nothing if all guards hold.
  std::optional<std::string> first_change() const;

  size_t size() const;
  bool empty() const { return guards_.empty(); }
  bool sees_every_change() const;

 private:
  std::vector<std::unique_ptr<Guard>> guards_;
};

// The items of a dict, in insertion order.
class DictItems {
 public:
  explicit DictItems(nb::handle dict);

  // True if the dict has these items. Compares versions first, where dicts have them.
  bool matches(PyObject* dict);

  // The first item that has changed: "['key']", or ".key" for an attribute.
  std::string changed_part(bool as_attribute) const;

  size_t size() const { return items_.size(); }
  bool has_version() const { return version_ != 0; }

 private:
  std::vector<std::pair<Pin, Pin>> items_;
  std::uint64_t version_;
  size_t first_changed_ = 0;  // the size of items_ if the dict has one more
  nb::object first_added_;    // the key of that one
};

// An element or attribute as a message writes it: "['key']", ".name".
std::string element_text(nb::handle key);
std::string attribute_text(nb::handle name);

}  // namespace nnx_wrappers::graph
