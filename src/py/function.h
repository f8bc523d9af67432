// Python functions and the cells of their closures. Raw CPython, wrapped at once.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::py {

namespace nb = nanobind;

// The cells of a Python function; none if it closes over nothing.
std::vector<nb::object> cells_of(nb::handle function);

// True for a function of C that is bound to no object: one of a module or of a class.
bool is_free_builtin(nb::handle object);

// What a cell holds, or an invalid object if it is empty.
nb::object cell_contents(nb::handle cell);

nb::object empty_cell();
void fill_cell(nb::handle cell, nb::handle contents);

// True if the function, or one that it makes, assigns to what it closes over: then what the cells
// hold is its state. Reads the code; slow.
bool assigns_to_closure(nb::handle function);

// The same function over other cells, as many as it has: code, globals, defaults and
// attributes are shared with it.
nb::object function_over(nb::handle function, const std::vector<nb::object>& cells);

}  // namespace nnx_wrappers::py
