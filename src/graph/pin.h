// A reference to an object that a guard has seen, by which the guard recognizes it.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::graph {

namespace nb = nanobind;

// The reference is weak if the type of the object allows that, so that guards keep no model alive,
// and strong if not. A new object at the address of a dead one is not taken for it.
class Pin {
 public:
  Pin() = default;  // stands for an object that is absent
  explicit Pin(nb::handle object);

  // True if `now` (null: absent) is the object, or an equal number, text or tuple of such, which
  // code could tell from it by its identity alone. Runs no user code.
  bool is(PyObject* now) const {
    if (now == object_) return is_alive();
    return now != nullptr && object_ != nullptr && !weak_.is_valid() && is_equal(now);
  }

  // True if `now` is the object itself.
  bool is_exactly(PyObject* now) const { return now == object_ && is_alive(); }

  // The object; invalid if it is dead.
  nb::handle object() const { return is_alive() ? nb::handle(object_) : nb::handle(); }

 private:
  bool is_alive() const {
    return !weak_.is_valid() ||
           reinterpret_cast<PyWeakReference*>(weak_.ptr())->wr_object == object_;
  }
  bool is_equal(PyObject* now) const;

  PyObject* object_ = nullptr;  // borrowed from strong_ or weak_
  nb::object strong_;
  nb::object weak_;
};

// True for numbers, texts, bytes, None, Ellipsis and NotImplemented: they never change, and hold no
// other object.
bool is_atom(PyObject* object);

}  // namespace nnx_wrappers::graph
