#include "tensor_program.h"

#include <ATen/Parallel.h>

#include "gatewright/base/memory.h"
#include "gatewright/base/parallel.h"

namespace gatewright::command {
namespace {

/// At its first parallel operation LibTorch sets the threads of OpenMP to a number of its own, which can
/// be 1. It does so once, here, and the number is put back.
void keep_threads() {
  const int threads = num_threads();
  at::get_num_threads();
  set_num_threads(threads);
}

}  // namespace

int run_tensor_command(int argc, char** argv, const std::map<std::string, AddVerb>& implemented) {
  keep_freed_memory();
  keep_threads();
  return run_command(argc, argv, implemented);
}

}  // namespace gatewright::command
