// All of the public API but interpreter.h, which only a program with a main() of its
// own needs.
//
// The headers need C++20: g++ 12, clang++ 15, or later. The library is compiled from its
// sources by the compiler of the program that uses it, for the Python (3.11 or later) that
// CMake finds, so no other compiler's ABI matters.
#pragma once

#include "nnx_wrappers/caches.h"
#include "nnx_wrappers/collections.h"
#include "nnx_wrappers/context.h"
#include "nnx_wrappers/errors.h"
#include "nnx_wrappers/features.h"
#include "nnx_wrappers/install.h"
#include "nnx_wrappers/lazy_init.h"
#include "nnx_wrappers/rngs.h"
#include "nnx_wrappers/to_linen.h"
#include "nnx_wrappers/to_nnx.h"
#include "nnx_wrappers/usage.h"
#include "nnx_wrappers/variables.h"
#include "nnx_wrappers/version.h"
