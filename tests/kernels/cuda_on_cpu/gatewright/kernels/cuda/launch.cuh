// Stands in for the file of this name in src: a launch runs its blocks one after another, on the CPU.
#pragma once

#include <algorithm>

#include "cuda_runtime.h"

namespace gatewright::kernels::cuda {

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, unsigned threads, size_t shared_bytes, void* /*stream*/,
            Arguments... arguments) {
  const std::function<void()> body = [&] { kernel(arguments...); };
  blockDim = dim3(threads);
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = dim3(x, y, z);
        cuda_on_cpu::shared_memory.assign(shared_bytes, std::byte{0xff});
        cuda_on_cpu::Block(threads, body).run();
      }
    }
  }
}

template <typename T>
T* shared_memory() {
  return reinterpret_cast<T*>(cuda_on_cpu::shared_memory.data());
}

}  // namespace gatewright::kernels::cuda
