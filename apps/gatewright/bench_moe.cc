#include "bench_moe.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "../../bench/moe.h"

namespace gatewright {
namespace {

nlohmann::ordered_json to_json(const bench::MoeRow& row) {
  const bench::MoeShape& s = row.shape;
  return {{"tokens", s.tokens},
          {"hidden", s.hidden},
          {"experts", s.experts},
          {"width", s.width},
          {"top_k", s.top_k},
          {"direction", s.backward ? "forward+backward" : "forward"},
          {"threads", row.threads},
          {"ours_gflops", row.ours_gflops},
          {"loop_gflops", row.loop_gflops},
          {"dense_gflops", row.dense_gflops},
          {"ours_over_dense", row.ours_over_dense},
          {"ours_over_loop", row.ours_over_loop}};
}

void print_row(const bench::MoeRow& row, double peak) {
  const bench::MoeShape& s = row.shape;
  fmt::print(
      "{:>6} {:>6} {:>7} {:>5} {:>5} {:>8} {:>8} | {:>5.0f} {:>5.0f} {:>5.0f} | {:>8.2f} {:>7.2f} "
      "{:>6.0f}%\n",
      s.tokens, s.hidden, s.experts, s.width, s.top_k, s.tokens * s.top_k / s.experts,
      s.backward ? "fwd+bwd" : "fwd", row.ours_gflops, row.loop_gflops, row.dense_gflops, row.ours_over_dense,
      row.ours_over_loop, 100 * row.ours_gflops / peak);
  std::fflush(stdout);
}

}  // namespace

int bench_moe(const BenchMoeOptions& options) {
  const std::vector<bench::MoeShape> shapes = bench::moe_shapes(options.quick);
  const double peak = options.json ? 0 : bench::peak_gflops();
  if (!options.json) {
    fmt::print(
        "Products of the experts in GF/s, medians of {} rounds; peak {:.0f} GF/s (multiply-adds on "
        "registers, all threads)\n",
        options.rounds, peak);
    fmt::print("{:>6} {:>6} {:>7} {:>5} {:>5} {:>8} {:>8} | {:>5} {:>5} {:>5} | {:>8} {:>7} {:>7}\n",
               "tokens", "hidden", "experts", "width", "top-k", "rows/exp", "", "ours", "loop", "dense",
               "ours/den", "/loop", "of peak");
  }
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (size_t i = 0; i < shapes.size(); ++i) {
    if (options.json && isatty(STDERR_FILENO))
      fmt::print(stderr, "\rbench moe: {} of {}", i + 1, shapes.size());
    const bench::MoeRow row = bench::measure_moe(shapes[i], options.rounds);
    if (options.json) {
      rows.push_back(to_json(row));
    } else {
      print_row(row, peak);
    }
  }
  if (options.json) {
    if (isatty(STDERR_FILENO)) fmt::print(stderr, "\n");
    fmt::print("{}\n", rows.dump(1));
  }
  return 0;
}

}  // namespace gatewright
