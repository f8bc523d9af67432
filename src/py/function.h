// Python functions and the cells of their closures.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::py {

namespace nb = nanobind;

// The cells of a Python function's closure; none if it closes over nothing.
std::vector<nb::object> cells_of(nb::handle function);

// True for a C function that is bound to no object but a module or a class.
bool is_free_builtin(nb::handle object);

// The contents of a cell, or an invalid object if it is empty.
nb::object cell_contents(nb::handle cell);

nb::object empty_cell();
void fill_cell(nb::handle cell, nb::handle contents);

// True if the function, or a function that it makes, assigns to a variable that it closes over, so
// that the cells are its state. Slow, since it reads the bytecode.
bool assigns_to_closure(nb::handle function);

// A copy of the function whose closure has these cells, as many as before. Code, globals, defaults
// and attributes are shared with the original.
nb::object with_cells(nb::handle function, const std::vector<nb::object>& cells);

}  // namespace nnx_wrappers::py
