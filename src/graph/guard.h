// What something depended on: objects as they were when it was learnt. A guard compares one object
// with what it saw of it. See `guard_recorder.h` for how guards come about.
//
// A guard looks at the address of its object only after the guards before it have found the object
// where it was: the set compares them in the order in which they were made.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "graph/pin.h"

namespace nnx_wrappers::graph {

namespace nb = nanobind;

class Guard {
 public:
  // `path` says where the object is, as the user's code would: "config.layers[0]".
  explicit Guard(std::string path) : path_(std::move(path)) {}
  virtual ~Guard() = default;
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  // Runs no user code, and allocates nothing that the garbage collector counts.
  virtual bool holds() = 0;

  // Which part does not hold, for a message; only after `holds` has returned false.
  virtual std::string changed() const { return path_; }

  // How many comparisons it makes.
  virtual size_t size() const { return 1; }

  // True if a change that was taken back meanwhile would be seen too.
  virtual bool sees_every_change() const { return false; }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class GuardSet {
 public:
  void add(std::unique_ptr<Guard> guard) { guards_.push_back(std::move(guard)); }

  // True if everything is as it was seen. `changed` is told the first thing that is not.
  bool holds(std::string& changed) const;

  size_t size() const;
  bool empty() const { return guards_.empty(); }
  bool sees_every_change() const;

 private:
  std::vector<std::unique_ptr<Guard>> guards_;
};

// The items of a dict, in their order.
class DictItems {
 public:
  explicit DictItems(nb::handle dict);

  // The number of changes is compared first, where the interpreter counts them.
  bool are_those_of(PyObject* dict);

  // "['key']", or ".key" for an attribute: the first that is another.
  std::string changed(bool as_attribute) const;

  size_t size() const { return items_.size(); }
  bool counts_changes() const { return version_ != 0; }

 private:
  std::vector<std::pair<Pin, Pin>> items_;
  std::uint64_t version_;
  size_t first_changed_ = 0;
  nb::object first_new_;  // the key that is more than there were
};

// How a message writes an element or attribute of something.
std::string element_text(nb::handle key);
std::string attribute_text(nb::handle name);

}  // namespace nnx_wrappers::graph
