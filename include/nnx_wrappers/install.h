// Puts this library in the place of the two Python bridges, for programs that are not
// to be changed: the names of flax.nnx.bridge and its submodules, and those of
// maxtext.layers.nnx_wrappers, also where that is imported later. Where there is no
// MaxText, `maxtext.layers.nnx_wrappers` is made, with empty packages around it.
//
// One installation a process. All functions need the GIL and may import modules.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers {

// The handle: it owns nothing, and every handle is the one installation.
class Installation {
 public:
  // Puts everything back and no longer looks at imports. Does nothing the second time.
  // A name that somebody else has replaced since is left alone. After an error another
  // call does what is left to do.
  void restore() const;

  // {module: [names]} that are replaced now.
  nanobind::dict replaced() const;
};

// Replaces the names and returns the handle. Does what is left to do if it has been
// called before. Logs what it replaced (logger 'nnx_wrappers', level INFO) and warns of
// modules that hold the earlier classes already; where that warning is an error, nothing stays
// replaced. Throws ImportError if the Python package is missing.
Installation install();

}  // namespace nnx_wrappers
