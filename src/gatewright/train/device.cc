#include "gatewright/train/device.h"

#include <ATen/Context.h>

#include "gatewright/base/error.h"

namespace gatewright {

at::Device choose_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  const bool has_cuda = at::hasCUDA();
  if (name == "cuda" && !has_cuda)
    fail("there is no CUDA device that this LibTorch can use; device = \"cpu\" works everywhere");
  return has_cuda ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
}

}  // namespace gatewright
