// Whole trees: a dict of Linen collections <-> nested NNX attributes.
//
// Both functions need the GIL, borrow their argument and leave it as it is, and
// return new dicts (arrays are shared, never copied).
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers {

// {'params': {'dense': {'kernel': leaf}}} -> {'dense': {'kernel': Param}}. Mappings
// may be dict or FrozenDict; keys of each level come out sorted, empty levels are
// dropped, as in Flax. Throws TypeError for a tree that is no mapping of mappings,
// ValueError (naming paths and collections) for a path that two collections have
// or that is a prefix of another's.
nanobind::dict linen_vars_to_nnx_attrs(nanobind::handle variables);

// The inverse. Attributes that are no Variable (nor a mapping of them) have no
// place among Linen's variables and are left out. Throws TypeError unless `attrs`
// is a mapping, ValueError for a Variable whose type has no collection name.
nanobind::dict nnx_attrs_to_linen_vars(nanobind::handle attrs);

}  // namespace nnx_wrappers
