// How fast whole models train, against what their matrix products alone would allow at the rate measured in
// the same minute, and where the rest of the time goes.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace gatewright::bench {

struct TrainRow {
  std::string name;  // dense, moe_8_top2, moe_64_top8
  double tokens_per_second = 0;
  double product_bound_tokens_per_second = 0;  // all products of forward and backward at product_gflops
  double share = 0;                            // of the bound; median of the rounds' ratios
  double product_gflops = 0;  // of a 2048-square product, all threads; the faster of OpenBLAS and ours
  /// Milliseconds of a step, by part; each measured alone at the model's shapes, "rest" is what they leave.
  std::vector<std::pair<std::string, double>> parts = {};
};

const std::vector<std::string>& train_bench_names();
/// Hidden 256, 6 layers, 8 heads, vocabulary 8,192, sequence 256, batch 8, float32; 8 experts of width 512
/// with top-2, 64 of width 128 with top-8, or one feed-forward of width 1,024.
TrainRow measure_train(const std::string& name, int rounds);

}  // namespace gatewright::bench
