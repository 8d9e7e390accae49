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

using gatewright::command::Program;
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

/// What the libraries of the tensor program read from the environment when they are loaded; the user's own
/// settings stay.
void set_up_libraries() {
  constexpr int kKeep = 0;
  // Threads that wait for others look for a few microseconds whether these are done and then sleep. OpenMP's
  // own default is to look for about a time slice: where other programs want the cores too, that doubles the
  // time.
  if (!std::getenv("OMP_WAIT_POLICY")) setenv("GOMP_SPINCOUNT", "5000", kKeep);
  // Pages of 2 MB for large blocks (glibc from 2.35 on): experts' weights are read once a step, and with
  // small pages half of that time goes into finding out where they are.
  setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", kKeep);
#if defined(__x86_64__)
  // OpenBLAS takes its SSE kernels on a processor that is newer than it is.
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx512 || avx2) setenv("OPENBLAS_CORETYPE", avx512 ? "SkylakeX" : "Haswell", kKeep);
#endif
}

/// Returns only when it fails.
int become(const char* program, char** argv) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string other = (self.parent_path() / program).string();
  set_up_libraries();
  execv(other.c_str(), argv);
  fmt::print(stderr,
             "gatewright: {} can't be started ({}); it belongs beside {} (cmake --build --preset release "
             "makes all)\n",
             other, std::strerror(errno), self.string());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const Verb* verb = asked_for(argc, argv);
  if (verb && verb->program == Program::kTensor) return become("gatewright-tensor", argv);
  if (verb && verb->program == Program::kLab) return become("gatewright-lab", argv);
  return gatewright::command::run_command(argc, argv, gatewright::command::core_verbs());
}
