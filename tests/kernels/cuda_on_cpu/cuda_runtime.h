// Stands in for CUDA's header, so that kernels run on the CPU: the threads of a block are fibers of one
// thread, which run one after another up to each __syncthreads().
#pragma once

#include <math.h>
#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#define __device__
#define __global__
#define __shared__ static  // one block runs at a time

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x_, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

inline dim3 threadIdx{0}, blockIdx{0}, blockDim{1};

using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0;
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "no error"; }

namespace cuda_on_cpu {

/// The last threads of a block run first: what needs a __syncthreads() and has none then shows.
inline bool last_thread_first = false;

inline std::vector<std::byte> shared_memory;

class Block {
 public:
  Block(unsigned threads, const std::function<void()>& body) : body_(body), fibers_(threads) {
    for (Fiber& fiber : fibers_) {
      fiber.stack.reset(new std::byte[kStack]);
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStack;
      fiber.context.uc_link = &scheduler_;
      makecontext(&fiber.context, &enter, 0);
    }
  }

  void run() {
    running_ = this;
    for (size_t left = fibers_.size(); left > 0;) {
      for (size_t i = 0; i < fibers_.size(); ++i) {
        current_ = last_thread_first ? fibers_.size() - 1 - i : i;
        if (fibers_[current_].done) continue;
        threadIdx = dim3(static_cast<unsigned>(current_));
        swapcontext(&scheduler_, &fibers_[current_].context);
        if (fibers_[current_].done) --left;
      }
    }
  }

  static void synchronise() {
    Block& block = *running_;
    swapcontext(&block.fibers_[block.current_].context, &block.scheduler_);
  }

 private:
  static constexpr size_t kStack = 1 << 16;
  struct Fiber {
    ucontext_t context = {};
    std::unique_ptr<std::byte[]> stack;
    bool done = false;
  };

  static void enter() {
    Block& block = *running_;
    block.body_();
    block.fibers_[block.current_].done = true;
  }

  static inline Block* running_ = nullptr;
  const std::function<void()>& body_;
  std::vector<Fiber> fibers_;
  size_t current_ = 0;
  ucontext_t scheduler_ = {};
};

}  // namespace cuda_on_cpu

inline void __syncthreads() { cuda_on_cpu::Block::synchronise(); }
