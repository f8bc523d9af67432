// flax.core.Scope: its variables, names, streams and flags. These functions read the attributes of
// an ordinary scope directly, without its Python methods, and call the methods of every other one.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// True while `init` runs in the scope.
bool is_initializing_scope(nb::handle scope);

// `scope.get_variable(collection, name)`, or an invalid object if there is no such variable.
nb::object scope_variable(nb::handle scope, nb::handle collection, nb::handle name);

// `scope.reserve(name, collection)`: throws Flax's error if the name is taken.
void reserve(nb::handle scope, nb::handle name, nb::handle collection);

// The stored dict of streams of a scope. Reading it draws no key, not even for a CheckedScope.
nb::object undrawn_rngs(nb::handle scope);

// True if Flax takes a LazyRng, of whatever key, for the key of a stream: Flax 0.10.5 and later.
bool takes_lazy_rngs();

// The type of a stream's keys: (shape, dtype). Draws no key.
nb::object key_type(nb::handle scope, nb::handle stream);

// True if it varies over manual axes: JAX adds equations where it meets a value that does not.
bool key_varies(nb::handle scope, nb::handle stream);

// `scope.make_rng(stream)`: the next key of a stream that the scope has.
nb::object draw_key(nb::handle scope, nb::handle stream);

// Advances the counter of the stream as draw_key does, and computes no key.
void skip_key(nb::handle scope, nb::handle stream);

// `scope.rewound(rewind_rngs)` and `scope.push(name, prefix, reuse)` for a subclass of Scope: the
// results are of that subclass, and no keys are drawn.
nb::object rewound(nb::handle scope, bool rewind_rngs);
nb::object pushed(nb::handle scope, nb::handle name, nb::handle prefix, bool reuse);

// The same for the usual case, made without Flax's methods: a scope that is valid, in its own
// trace, a name, and streams that go on.
nb::object rewound_natively(nb::handle scope);
nb::object pushed_natively(nb::handle scope, nb::handle name, bool reuse = false);

// A Scope of Flax at the place of `scope` with nothing in it but this parameter.
nb::object scope_with_param(nb::handle scope, nb::handle name, nb::handle value);

// The tuple that Scope hashes.
nb::object hash_parts(nb::handle scope);

// Gives `scope_class`, a subclass of Scope, a `__hash__` in C that returns what Scope's returns.
// Some versions of Linen hash the scope for each field of each module.
void hash_in_c(nb::handle scope_class);

}  // namespace nnx_wrappers::upstream
