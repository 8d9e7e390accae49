// Memory for the kernels' temporary buffers, kept by each thread from call to call: a product of a few
// microseconds can't pay for page faults.
#pragma once

#include <cstdint>

namespace gatewright::kernels {

/// Hands out pieces of the calling thread's buffer, 64-byte aligned and not initialised; all are given back
/// when the object dies. Objects nest like the calls that make them.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* floats(int64_t count);

 private:
  int64_t mark_block_;
  int64_t mark_used_;
};

}  // namespace gatewright::kernels
