// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Bytecode has no machine of its own; Debian keeps this header in a directory per machine.
#include <asm-generic/posix_types.h>
