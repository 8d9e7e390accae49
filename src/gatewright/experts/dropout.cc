#include "gatewright/experts/dropout.h"

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"

namespace gatewright {

RandomStream& stream_for(const ExpertContext& context, const char* what) {
  require(context.random != nullptr, "{} needs a random stream in training", what);
  return *context.random;
}

Tensor dropout(const Tensor& x, double probability, const ExpertContext& context) {
  if (!context.training || probability <= 0) return x;
  RandomStream& random = stream_for(context, "dropout");
  Tensor factor = at::empty(x.sizes(), at::kFloat);
  float* values = factor.data_ptr<float>();
  const auto least = static_cast<float>(probability), kept = 1 / (1 - least);
  const uint64_t start = random.position();  // one word a draw: every thread knows where its own begin
  parallel_for(0, factor.numel(), 4096, [&](int64_t begin, int64_t end) {
    RandomStream mine = random;
    mine.seek(start + static_cast<uint64_t>(begin));
    for (int64_t i = begin; i < end; ++i) values[i] = mine.uniform() < least ? 0 : kept;
  });
  random.seek(start + static_cast<uint64_t>(factor.numel()));
  return x * factor.to(x.options().requires_grad(false));
}

}  // namespace gatewright
