// The bodies of the methods that the Python class nnx_wrappers.Installation has beside those
// of the C++ class: a `with` block, and what it looks like. All need the GIL.
#pragma once

#include <string>

namespace nnx_wrappers::bridge {

// Enters a `with` block. When the outermost block ends, it restores, if the
// installation was made for it: not if an earlier install() had made it.
void enter_installation();
void exit_installation();

// What is replaced, or that all is restored.
std::string installation_repr();

}  // namespace nnx_wrappers::bridge
