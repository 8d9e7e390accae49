// `gatewright bench moe`: the table of bench/moe.h on the terminal or as JSON.
#pragma once

namespace gatewright {

struct BenchMoeOptions {
  bool json = false;   // rows as one JSON array on stdout, nothing else
  bool quick = false;  // the smallest shapes only
  int rounds = 7;      // of each contestant; medians are printed
};

/// Uses all threads of the process. Returns the exit code.
int bench_moe(const BenchMoeOptions& options);

}  // namespace gatewright
