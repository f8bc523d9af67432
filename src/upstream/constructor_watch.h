// Sees the constructor calls of nnx.Pytree classes before they run, and may answer them.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

class ConstructorWatch {
 public:
  // The object of a call: what `construct` returns, or one that was made in another way.
  using Handler =
      std::function<nb::object(nb::handle type, const nb::tuple& args, const nb::dict& kwargs)>;

  // Hands the calls of this thread to `handler` while the object lives. A watch may be made while
  // another one lives in this thread, which sees nothing meanwhile. Sees nothing if the program has
  // replaced Flax's own way to run constructors.
  explicit ConstructorWatch(Handler handler);
  ~ConstructorWatch();
  ConstructorWatch(const ConstructorWatch&) = delete;
  ConstructorWatch& operator=(const ConstructorWatch&) = delete;

  // What the handler makes of a call.
  nb::object answer(nb::handle type, const nb::tuple& args, const nb::dict& kwargs) const;

  // Runs the constructor, as Flax does. The handler sees the calls that it makes.
  static nb::object construct(nb::handle type, const nb::tuple& args, const nb::dict& kwargs);

  // False if this version of Flax runs constructors in another way.
  static bool is_supported();

 private:
  Handler handler_;
  nb::object namespace_;  // of Flax's module that has the function
  const ConstructorWatch* outer_;
};

}  // namespace nnx_wrappers::upstream
