// How fast the experts compute, side by side with what people use instead, in one process and in turns: the
// usual loop over experts in eager tensor operations, and one dense chain of products of the same number of
// operations (products only: no gather, no activation, no combine).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace gatewright::bench {

struct MoeShape {
  int64_t tokens;
  int64_t hidden;
  int64_t experts;
  int64_t width;  // of one SwiGLU expert
  int64_t top_k;
  bool backward;  // forward alone, or forward and backward
};

struct MoeRow {
  MoeShape shape;
  int threads;
  // medians over rounds; operations are those of the products
  double ours_gflops, loop_gflops, dense_gflops;
  // medians of the ratios within a round
  double ours_over_dense, ours_over_loop;
};

/// tokens 512 and 4096; hidden 512 and 1024; 8 experts of width 2 x hidden with top-2, 64 of width hidden / 2
/// with top-2 and top-8; both directions. quick: the smallest of each kind.
std::vector<MoeShape> moe_shapes(bool quick);

/// Measures one shape on all threads: at least `rounds` rounds after some to warm up.
MoeRow measure_moe(const MoeShape& shape, int rounds);

/// What this machine could do at most, all threads.
struct MachinePeak {
  double gflops;          // multiply-adds on registers alone
  double read_gigabytes;  // a second, from memory
};
MachinePeak machine_peak();

/// The rate that `peak` allows: each operation at the peak, or each expert's weights read from memory once
/// forward and once more backward, and their gradients written at the same rate, whichever takes longer.
double bound_gflops(const MoeShape& shape, const MachinePeak& peak);

}  // namespace gatewright::bench
