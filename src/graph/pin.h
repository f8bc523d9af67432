// An object that a guard has seen, to tell it from every other.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::graph {

namespace nb = nanobind;

// Holds the object weakly where its type allows that, so that a guard keeps no model alive, else
// strongly. Never takes a new object at an old address for the old one.
class Pin {
 public:
  Pin() = default;  // nothing: absence
  explicit Pin(nb::handle object);

  // True if `now` (which may be null) is the object, or a number, text or tuple of such that no
  // code could tell from it but by identity. Runs no user code.
  bool is(PyObject* now) const {
    if (now == object_) return is_alive();
    return now != nullptr && object_ != nullptr && !weak_.is_valid() && is_equal(now);
  }

  // The same by identity alone.
  bool is_exactly(PyObject* now) const { return now == object_ && is_alive(); }

  // Invalid if it is gone.
  nb::handle object() const { return is_alive() ? nb::handle(object_) : nb::handle(); }

 private:
  bool is_alive() const {
    return !weak_.is_valid() ||
           reinterpret_cast<PyWeakReference*>(weak_.ptr())->wr_object == object_;
  }
  bool is_equal(PyObject* now) const;

  PyObject* object_ = nullptr;  // borrowed from one of the next two
  nb::object strong_;
  nb::object weak_;
};

// True for numbers, texts, bytes, None and Ellipsis: they never change, and hold nothing.
bool is_atom(PyObject* object);

}  // namespace nnx_wrappers::graph
