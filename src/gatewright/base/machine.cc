#include "gatewright/base/machine.h"

#include <fmt/format.h>

#include <fstream>

#include "gatewright/base/parallel.h"

namespace gatewright {
namespace {

/// As Linux tells it.
std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) {
      if (const size_t colon = line.find(": "); colon != std::string::npos) return line.substr(colon + 2);
    }
  }
  return "an unknown processor";
}

}  // namespace

std::string machine_description() {
  const int threads = num_threads();
  return fmt::format("{} thread{} of {}", threads, threads == 1 ? "" : "s", processor_name());
}

}  // namespace gatewright
