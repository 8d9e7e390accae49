#include "gatewright/evaluate/generate.h"

#include <algorithm>

#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"

namespace gatewright {

CachedDecoder::CachedDecoder(Decoder& model)
    : model_(model), cache_(static_cast<size_t>(model.spec().num_layers())) {}

std::span<const float> CachedDecoder::logits_after(std::span<const int32_t> tokens) {
  require(!tokens.empty(), "a text can't be continued from nothing: the prompt has no tokens");
  const at::NoGradGuard no_grad;
  // The last token is computed in any case, for its logits.
  const auto common = static_cast<size_t>(
      std::ranges::mismatch(tokens.first(tokens.size() - 1), tokens_).in1 - tokens.begin());
  for (KeyValueCache& layer : cache_) layer.length = static_cast<int64_t>(common);
  const std::span<const int32_t> more = tokens.subspan(common);
  tokens_.resize(common);
  const Tensor ids = at::tensor(at::ArrayRef<int32_t>(more.data(), more.size()), at::kLong).unsqueeze(0);
  const DecoderOutput output = model_.forward({.tokens = ids.to(model_.device())}, {.cache = &cache_});
  tokens_.insert(tokens_.end(), more.begin(), more.end());
  logits_ = model_.logits(output.hidden.select(1, -1)).reshape({-1}).to(at::kCPU).contiguous();
  return {logits_.data_ptr<float>(), static_cast<size_t>(logits_.numel())};
}

std::vector<int32_t> generate(Decoder& model, std::span<const int32_t> prompt, const GenerateOptions& options,
                              const std::function<bool(int32_t)>& see) {
  CachedDecoder cached(model);
  return generate(cached, prompt, options, see);
}

std::vector<int32_t> generate(CachedDecoder& model, std::span<const int32_t> prompt,
                              const GenerateOptions& options, const std::function<bool(int32_t)>& see) {
  check_sampling(options.sampling);
  RandomStream random(options.seed, "generate");
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  std::span<const float> logits = model.logits_after(tokens);
  const auto written = [&] { return static_cast<int64_t>(tokens.size() - prompt.size()); };
  while (written() < options.max_tokens && !interrupted()) {
    const int32_t token = sample(logits, options.sampling, random);
    if (std::ranges::find(options.stop, token) != options.stop.end()) break;
    tokens.push_back(token);
    if (see && !see(token)) break;
    if (written() < options.max_tokens) logits = model.logits_after(tokens);
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(prompt.size()), tokens.end()};
}

}  // namespace gatewright
