#include "gatewright/kernels/cpu/scratch.h"

#include <algorithm>
#include <new>
#include <vector>

namespace gatewright::kernels {
namespace {

constexpr int64_t kAlign = 64;
constexpr int64_t kSmallestBlock = int64_t{1} << 20;  // bytes

struct Block {
  std::byte* data;
  int64_t size;
};

// A stack over a few blocks. A block never moves, so pieces stay valid when a later one needs a new block.
struct Arena {
  std::vector<Block> blocks;
  int64_t block = 0;  // in use
  int64_t used = 0;   // bytes of it

  ~Arena() {
    for (const Block& b : blocks) ::operator delete(b.data, std::align_val_t(kAlign));
  }

  std::byte* take(int64_t bytes) {
    bytes = (bytes + kAlign - 1) / kAlign * kAlign;
    while (block < static_cast<int64_t>(blocks.size()) &&
           used + bytes > blocks[static_cast<size_t>(block)].size) {
      ++block;
      used = 0;
    }
    if (block == static_cast<int64_t>(blocks.size())) {
      const int64_t last = blocks.empty() ? 0 : blocks.back().size;
      const int64_t size = std::max({bytes, 2 * last, kSmallestBlock});
      auto* data =
          static_cast<std::byte*>(::operator new(static_cast<size_t>(size), std::align_val_t(kAlign)));
      blocks.push_back({data, size});
    }
    std::byte* piece = blocks[static_cast<size_t>(block)].data + used;
    used += bytes;
    return piece;
  }
};

Arena& arena() {
  thread_local Arena instance;
  return instance;
}

}  // namespace

Scratch::Scratch() : mark_block_(arena().block), mark_used_(arena().used) {}

Scratch::~Scratch() {
  arena().block = mark_block_;
  arena().used = mark_used_;
}

float* Scratch::floats(int64_t count) {
  return reinterpret_cast<float*>(arena().take(count * static_cast<int64_t>(sizeof(float))));
}

}  // namespace gatewright::kernels
