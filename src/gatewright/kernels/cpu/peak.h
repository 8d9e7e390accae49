// The rates that no float32 product can exceed on this machine, on all threads.
#pragma once

namespace gatewright::kernels {

/// Multiply-adds on registers alone: billions of operations a second (a multiply-add is two), the best of a
/// few short runs.
double peak_gflops();

/// Sums of an array that no cache holds: billions of bytes a second that come from memory, the best of a few
/// passes.
double peak_read_gigabytes();

}  // namespace gatewright::kernels
