// flax.core.Scope: its variables, names, streams and flags. What is read here directly
// saves the Python calls of its methods; where anything is unusual they are asked.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// True while `init` runs in the scope.
bool is_initializing_scope(nb::handle scope);

// scope.get_variable(collection, name), or an invalid object if it has none.
nb::object scope_variable(nb::handle scope, nb::handle collection, nb::handle name);

// scope.reserve(name, collection): throws Flax's error if the name is taken.
void reserve(nb::handle scope, nb::handle name, nb::handle collection);

// The dict of streams of a scope as it stands: a scope of ToNNX draws no key for it.
nb::object undrawn_rngs(nb::handle scope);

// The type of a stream's keys in a scope: (shape, dtype). Draws no key.
nb::object key_type(nb::handle scope, nb::handle stream);

// scope.make_rng(stream): the next key of a stream that the scope has.
nb::object draw_key(nb::handle scope, nb::handle stream);

// As draw_key, but the key is not computed: only the counter advances.
void skip_key(nb::handle scope, nb::handle stream);

// scope.rewound(rewind_rngs) and scope.push(name, prefix, reuse), for a scope whose class
// has both for its own: the results are of that class too. Draw no keys.
nb::object rewound(nb::handle scope, bool rewind_rngs);
nb::object pushed(nb::handle scope, nb::handle name, nb::handle prefix, bool reuse);

// The same for the usual case, made without Flax's methods: a scope that is valid, in its own
// trace, a name, and streams that go on.
nb::object rewound_natively(nb::handle scope);
nb::object pushed_natively(nb::handle scope, nb::handle name);

// What Flax hashes of a scope.
nb::object hash_parts(nb::handle scope);

// Gives `scope_class`, a subclass of Scope, a __hash__ in C with the same values as
// Scope's: some versions of Linen hash the scope for each field of each module.
void hash_in_c(nb::handle scope_class);

}  // namespace nnx_wrappers::upstream
