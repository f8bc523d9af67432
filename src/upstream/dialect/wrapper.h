// What a ToNNX is like in the installed Flax: its attributes, its streams, and how its values are
// stored. Ours follows it, so that states have the same paths and values.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// The streams that a ToNNX keeps, of the nnx.Rngs that it is given: a fork of them, which draws a
// key of each stream, or these themselves up to Flax 0.11.2.
nb::object streams_for_wrapper(nb::handle rngs);

// The key of a stream with which lazy_init calls Linen. The stream advances, but not up to Flax
// 0.10.4, where its own key is used.
nb::object key_for_lazy_init(nb::handle stream);

// The class keywords of a ToNNX, beside those of its bases.
nb::dict wrapper_class_keywords();

// The names of the attributes that hold the Linen module and the streams.
nb::tuple wrapper_attributes();

// True for an attribute of the wrapper itself, which holds no variable of the Linen module.
bool is_wrapper_attribute(nb::handle name);

// The value as an attribute that is part of the graph, in versions that ask for a mark.
nb::object marked_as_data(nb::handle value);

// True for a graph definition that a collection may hold beside arrays, up to Flax 0.11.2.
bool is_stored_graph_def(nb::handle value);

// False where Flax's ToLinen is another program, which ours cannot stand for.
bool has_to_linen();

// Why ToLinen does not work with the installed Flax, where it does not.
std::string why_no_to_linen();

}  // namespace nnx_wrappers::upstream
