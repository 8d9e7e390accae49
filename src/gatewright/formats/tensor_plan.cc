#include "gatewright/formats/tensor_plan.h"

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"

namespace gatewright {

void write_tensor(const TensorPlan& tensor, const ByteSink& sink) {
  const auto size = static_cast<uint64_t>(tensor_bytes(tensor.dtype, tensor.shape, tensor.name));
  uint64_t written = 0;
  const auto counted = [&](std::span<const std::byte> bytes) {
    written += bytes.size();
    require(written <= size, "{} can't be saved: more than the {} bytes of its shape were given",
            Quoted{tensor.name}, size);
    sink(bytes);
  };
  if (tensor.produce)
    tensor.produce(counted);
  else
    counted(tensor.data);
  require(written == size, "{} can't be saved: {} bytes for a shape that takes {}", Quoted{tensor.name},
          written, size);
}

}  // namespace gatewright
