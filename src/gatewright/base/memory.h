// Programs that allocate and free the same large tensors at every step.
#pragma once

namespace gatewright {

/// From here on freed memory stays with the process, so that the next step finds its pages there: a fresh
/// page costs as much as computing on it. (Where the C library can't be told so, nothing happens.) Call once,
/// before the first large allocation.
void keep_freed_memory();

}  // namespace gatewright
