// Python in tests: snippets that make objects and oracles, and errors caught.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

namespace nnx_wrappers::testing {

namespace nb = nanobind;

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Runs Python statements that assign `result`, and returns it. Known names: jax, jnp,
// np, nnx, linen, meta (flax.core.meta), graphlib, nnx_wrappers, and the standard
// modules collections, dataclasses, functools, sys, types.
nb::object run(const char* statements);

// The value of a Python expression; most often a lambda that a test then calls.
nb::object eval(const char* expression);

// Runs Python statements whose names the snippets that follow know too.
void prepare_names(const char* statements);

// repr(object), for comparisons that show both sides when they fail.
std::string show(nb::handle object);

// [str(x) for x in iterable]
std::vector<std::string> texts(nb::handle iterable);

// True if two trees have the same structure, and every array the same bits.
bool same_bits(nb::handle left, nb::handle right);

// Type, value bits and metadata of a Variable, a box or a raw value, as text.
std::string account(nb::handle object);

// What a call threw: the Python class and the text.
struct Error {
  nb::object type;  // invalid if nothing was thrown
  nb::object value;
  std::string text;

  bool is_a(nb::handle expected) const;
};

template <typename Body>
Error error_of(Body&& body) {
  try {
    body();
  } catch (nb::python_error& error) {
    const nb::object value = nb::borrow(error.value());
    return {nb::borrow(error.type()), value, nb::cast<std::string>(nb::str(value))};
  }
  return {nb::object(), nb::object(), "nothing was thrown"};
}

// Makes the snippets' namespace; release() drops it before Python ends.
void prepare();
void release();

// Whether main could start an Interpreter with a program that does not exist.
inline bool started_without_program = false;

}  // namespace nnx_wrappers::testing
