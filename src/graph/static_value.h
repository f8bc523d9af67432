// The static attributes that a Template can keep.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <unordered_map>

#include "py/identity_set.h"

namespace nnx_wrappers::graph {

namespace nb = nanobind;

enum class StaticPolicy {
  kShare,  // it is immutable: all instances have the same object
  kCopy,   // it is a list, dict, set, partial or frozen dataclass of immutable objects: each
           // instance has a copy
  kRefuse  // its type is unknown, or it belongs to this one graph
};

// Objects that instances share whatever they are.
class Shared {
 public:
  Shared() = default;

  // True for an object that the constructor may have made: each call of it makes another one.
  using IsMade = std::function<bool(nb::handle)>;

  // Borrows the set.
  explicit Shared(const py::IdentitySet& objects, IsMade is_made = {})
      : objects_(&objects), is_made_(std::move(is_made)) {}

  // One object more. Borrows it, and `others`.
  Shared(const Shared& others, nb::handle object)
      : objects_(others.objects_), others_(&others), object_(object) {}

  bool contains(nb::handle value) const {
    for (const Shared* part = this; part != nullptr; part = part->others_) {
      if (part->object_.is(value)) return true;
    }
    return objects_ != nullptr && objects_->contains(value);
  }

  // True if `is_made` tells what the constructor has made.
  bool tells_made() const {
    return others_ != nullptr ? others_->tells_made() : is_made_ != nullptr;
  }

  bool is_made(nb::handle value) const {
    if (others_ != nullptr) return others_->is_made(value);
    return is_made_ && is_made_(value);
  }

  // True for an object that is known to have existed before the constructor ran.
  bool existed(nb::handle value) const {
    return contains(value) || (tells_made() && !is_made(value));
  }

 private:
  const py::IdentitySet* objects_ = nullptr;
  IsMade is_made_;
  const Shared* others_ = nullptr;
  nb::handle object_;
};

// How `value` can be kept.
StaticPolicy policy_of(nb::handle value, const Shared& shared);

// How the defaults and the attributes of a function can be kept, all together.
StaticPolicy policy_of_extras(nb::handle function, const Shared& shared);

// Adds what existed before of the containers in a value whose policy is kCopy: copies of the value
// hold these themselves.
void add_kept(nb::handle value, const Shared& shared, py::IdentitySet& kept);

// Copies values whose policy is kCopy: containers, partials and frozen dataclasses are new, and
// what they hold is shared. An object of this class is used for a whole graph, so that a container
// in several places has one copy.
class StaticCopies {
 public:
  // Borrows the set of what is not copied.
  explicit StaticCopies(const py::IdentitySet& kept) : kept_(kept) {}

  nb::object copy(nb::handle value);

 private:
  nb::object copy_of_partial(nb::handle partial);
  nb::object copy_of_attributes(nb::handle object);

  struct Copied {
    nb::object original;  // owned, so that no other object gets its address, which is the key
    nb::object copy;
  };
  const py::IdentitySet& kept_;
  std::unordered_map<PyObject*, Copied> known_;
};

}  // namespace nnx_wrappers::graph
