// All of the public API but interpreter.h, which only a program with a main() of its
// own needs.
#pragma once

#include "nnx_wrappers/caches.h"
#include "nnx_wrappers/collections.h"
#include "nnx_wrappers/context.h"
#include "nnx_wrappers/errors.h"
#include "nnx_wrappers/functional.h"
#include "nnx_wrappers/install.h"
#include "nnx_wrappers/lazy_init.h"
#include "nnx_wrappers/nnx_meta.h"
#include "nnx_wrappers/rngs.h"
#include "nnx_wrappers/to_linen.h"
#include "nnx_wrappers/to_nnx.h"
#include "nnx_wrappers/usage.h"
#include "nnx_wrappers/variables.h"
