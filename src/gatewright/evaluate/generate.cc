#include "gatewright/evaluate/generate.h"

#include <algorithm>

#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"

namespace gatewright {

CachedDecoder::CachedDecoder(Decoder& model)
    : model_(model), cache_(static_cast<size_t>(model.spec().num_layers())) {}

Tensor CachedDecoder::compute(std::span<const int32_t> more, int64_t text_length) {
  const Tensor ids = at::tensor(at::ArrayRef<int32_t>(more.data(), more.size()), at::kLong).unsqueeze(0);
  Tensor hidden =
      model_.forward({.tokens = ids.to(model_.device())}, {.cache = &cache_, .text_length = text_length})
          .hidden;
  tokens_.insert(tokens_.end(), more.begin(), more.end());
  return hidden;
}

std::span<const float> CachedDecoder::logits_after(
    std::span<const int32_t> tokens, const std::function<void(int64_t done, int64_t total)>& reading) {
  require(!tokens.empty(), "a text can't be continued from nothing: the prompt has no tokens");
  const at::NoGradGuard no_grad;
  const bool by_long_factors = turns_by_long_factors(model_.spec().rotary, std::ssize(tokens));
  if (by_long_factors != by_long_factors_) tokens_.clear();
  by_long_factors_ = by_long_factors;
  // The last token is computed in any case, for its logits.
  const auto common = static_cast<size_t>(
      std::ranges::mismatch(tokens.first(tokens.size() - 1), tokens_).in1 - tokens.begin());
  for (KeyValueCache& layer : cache_) layer.length = static_cast<int64_t>(common);
  tokens_.resize(common);
  const std::span<const int32_t> more = tokens.subspan(common);
  const size_t piece = model_.chooses_token_by_token() ? static_cast<size_t>(kPiece) : more.size();
  Tensor hidden;
  for (size_t done = 0; done < more.size();) {
    if (done > 0 && interrupted()) return {};
    const size_t count = std::min(piece, more.size() - done);
    hidden = compute(more.subspan(done, count), std::ssize(tokens));
    done += count;
    if (reading) reading(static_cast<int64_t>(done), std::ssize(more));
  }
  logits_ = model_.logits(hidden.select(1, -1)).reshape({-1}).to(at::kCPU).contiguous();
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
  std::span<const float> logits = model.logits_after(tokens, options.reading);
  if (logits.empty()) return {};
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
