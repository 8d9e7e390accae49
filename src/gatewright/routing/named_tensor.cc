#include "gatewright/routing/named_tensor.h"

#include <span>
#include <utility>

#include "gatewright/base/parallel.h"

namespace gatewright {
namespace {

thread_local bool without_initial_weights = false;

}  // namespace

void mark_routers(ParameterList& parameters, size_t first) {
  for (size_t i = first; i < parameters.size(); ++i) parameters[i].router = true;
}

WithoutInitialWeights::WithoutInitialWeights() : before_(std::exchange(without_initial_weights, true)) {}
WithoutInitialWeights::~WithoutInitialWeights() { without_initial_weights = before_; }

Tensor normal_parameter(at::IntArrayRef shape, double standard_deviation, RandomStream& random) {
  constexpr uint64_t kWordsPerNormal = 4;
  Tensor result = at::empty(shape, at::kFloat);
  if (without_initial_weights) return result.set_requires_grad(true);
  float* values = result.data_ptr<float>();
  const uint64_t start = random.position();
  parallel_for(0, result.numel(), 4096, [&](int64_t begin, int64_t end) {
    RandomStream mine = random;
    mine.seek(start + kWordsPerNormal * static_cast<uint64_t>(begin));
    for (int64_t i = begin; i < end; ++i) values[i] = mine.normal() * static_cast<float>(standard_deviation);
  });
  random.seek(start + kWordsPerNormal * static_cast<uint64_t>(result.numel()));
  return result.set_requires_grad(true);
}

Tensor uniform_tensor(at::IntArrayRef shape, double bound, RandomStream& random) {
  Tensor result = at::empty(shape, at::kFloat);
  for (float& x : std::span(result.data_ptr<float>(), static_cast<size_t>(result.numel())))
    x = static_cast<float>(bound) * (2 * random.uniform() - 1);
  return result;
}

Tensor constant_parameter(at::IntArrayRef shape, double value) {
  return at::full(shape, value, at::kFloat).set_requires_grad(true);
}

}  // namespace gatewright
