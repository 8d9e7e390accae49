// The rate that no float32 product can exceed: multiply-adds on registers alone, on all threads.
#pragma once

namespace gatewright::kernels {

/// Billions of operations a second (a multiply-add is two), the best of a few short runs.
double peak_gflops();

}  // namespace gatewright::kernels
