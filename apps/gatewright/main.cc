// gatewright: no LibTorch here, so it starts at once.
#include <unistd.h>

#include <fmt/format.h>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "command.h"
#include "core_verbs.h"

namespace {

using gatewright::command::Verb;
using gatewright::command::verbs;

const Verb* asked_for(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (argv[i][0] == '-') continue;
    for (const Verb& v : verbs()) {
      if (v.name == argv[i]) return &v;
    }
    return nullptr;
  }
  return nullptr;
}

/// Threads that wait for others look for a few microseconds whether these are done and then sleep. OpenMP's
/// own default is to look for about a time slice: where other programs want the cores too, that doubles the
/// time.
void wait_with_patience() {
  if (!std::getenv("OMP_WAIT_POLICY")) setenv("GOMP_SPINCOUNT", "5000", /*overwrite=*/0);
}

/// Returns only when it fails.
int become_tensor_program(char** argv) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string other = (self.parent_path() / "gatewright-tensor").string();
  wait_with_patience();
  execv(other.c_str(), argv);
  fmt::print(stderr, "gatewright: {} can't be started ({}); it belongs beside {}\n", other,
             std::strerror(errno), self.string());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const Verb* verb = asked_for(argc, argv);
  if (verb && verb->needs_tensors) return become_tensor_program(argv);
  return gatewright::command::run_command(argc, argv, gatewright::command::core_verbs());
}
