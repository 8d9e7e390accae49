// How a kernel is started, and the memory that its blocks share. The tests put a file of their own in this
// one's place, which runs the kernels on the CPU.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace gatewright::kernels::cuda {

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, unsigned threads, size_t shared_bytes, void* stream,
            Arguments... arguments) {
  kernel<<<grid, threads, shared_bytes, static_cast<cudaStream_t>(stream)>>>(arguments...);
}

/// The launch's shared_bytes.
template <typename T>
__device__ T* shared_memory() {
  extern __shared__ __align__(16) unsigned char memory[];
  return reinterpret_cast<T*>(memory);
}

}  // namespace gatewright::kernels::cuda
