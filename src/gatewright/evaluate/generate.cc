#include "gatewright/evaluate/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"

namespace gatewright {
namespace {

Tensor last_logits(Decoder& model, std::span<const int32_t> tokens, std::vector<KeyValueCache>& cache) {
  const Tensor ids = at::tensor(at::ArrayRef<int32_t>(tokens.data(), tokens.size()), at::kLong).unsqueeze(0);
  const DecoderOutput output = model.forward({.tokens = ids.to(model.device())}, {.cache = &cache});
  return model.logits(output.hidden.select(1, -1)).reshape({-1}).to(at::kCPU).contiguous();
}

}  // namespace

int32_t sample(std::span<const float> logits, const GenerateOptions& options, RandomStream& random) {
  const auto best = static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
  if (options.temperature <= 0) return best;
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  if (options.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(options.top_k)));
  const float largest = logits[static_cast<size_t>(best)];
  std::vector<double> weight(order.size());
  double all = 0;
  for (size_t i = 0; i < order.size(); ++i)
    all += weight[i] =
        std::exp(static_cast<double>(logits[static_cast<size_t>(order[i])] - largest) / options.temperature);
  double kept = 0;
  size_t size = 0;
  while (size < order.size() && kept <= options.top_p * all) kept += weight[size++];
  double drawn = random.uniform_double() * kept;
  for (size_t i = 0; i < size; ++i) {
    drawn -= weight[i];
    if (drawn < 0) return order[i];
  }
  return order[size - 1];
}

std::vector<int32_t> generate(Decoder& model, std::span<const int32_t> prompt, const GenerateOptions& options,
                              const std::function<bool(int32_t)>& see) {
  require(!prompt.empty(), "a text can't be continued from nothing: the prompt has no tokens");
  const at::NoGradGuard no_grad;
  RandomStream random(options.seed, "generate");
  std::vector<KeyValueCache> cache(static_cast<size_t>(model.spec().num_layers()));
  std::vector<int32_t> result;
  Tensor logits = last_logits(model, prompt, cache);
  while (static_cast<int64_t>(result.size()) < options.max_tokens && !interrupted()) {
    const int32_t token =
        sample({logits.data_ptr<float>(), static_cast<size_t>(logits.numel())}, options, random);
    if (token == options.stop) break;
    result.push_back(token);
    if (see && !see(token)) break;
    if (static_cast<int64_t>(result.size()) < options.max_tokens)
      logits = last_logits(model, std::span(&result.back(), 1), cache);
  }
  return result;
}

}  // namespace gatewright
