#include "gatewright/evaluate/generate.h"

#include <algorithm>
#include <utility>

#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/evaluate/drafter.h"

namespace gatewright {
CachedDecoder::CachedDecoder(Decoder& model)
    : model_(model), cache_(static_cast<size_t>(model.spec().num_layers())) {}

Tensor CachedDecoder::compute(std::span<const int32_t> more, int64_t text_length) {
  const Tensor ids = at::tensor(at::ArrayRef<int32_t>(more.data(), more.size()), at::kLong).unsqueeze(0);
  DecoderOutput output =
      model_.forward({.tokens = ids.to(model_.device())}, {.cache = &cache_, .text_length = text_length});
  tokens_.insert(tokens_.end(), more.begin(), more.end());
  routing_ = std::move(output.routing);
  return output.hidden;
}

double CachedDecoder::experts_in_use() const {
  double sum = 0;
  for (const RoutingRecord& record : routing_)
    sum += (expert_counts(record.assignment) > 0).sum().item<double>();
  return routing_.empty() ? 0 : sum / static_cast<double>(routing_.size());
}

std::span<const float> CachedDecoder::logits_after(
    std::span<const int32_t> tokens, const std::function<void(int64_t done, int64_t total)>& reading) {
  return logits_of_last(tokens, 1, reading);
}

std::span<const float> CachedDecoder::logits_of_last(
    std::span<const int32_t> tokens, int64_t count,
    const std::function<void(int64_t done, int64_t total)>& reading) {
  require(!tokens.empty(), "a text can't be continued from nothing: the prompt has no tokens");
  require(count >= 1 && count <= std::ssize(tokens), "a text of {} tokens has no last {}", tokens.size(),
          count);
  const at::NoGradGuard no_grad;
  const bool by_long_factors = turns_by_long_factors(model_.spec().rotary, std::ssize(tokens));
  if (by_long_factors != by_long_factors_) tokens_.clear();
  by_long_factors_ = by_long_factors;
  // The last tokens are computed in any case, for their logits.
  const auto common = static_cast<size_t>(
      std::ranges::mismatch(tokens.first(tokens.size() - static_cast<size_t>(count)), tokens_).in1 -
      tokens.begin());
  for (KeyValueCache& layer : cache_) layer.length = static_cast<int64_t>(common);
  tokens_.resize(common);
  const std::span<const int32_t> more = tokens.subspan(common);
  const size_t piece = model_.chooses_token_by_token() ? static_cast<size_t>(kPiece) : more.size();
  Tensor last;  // [1, n, H], at most `count` of them
  for (size_t done = 0; done < more.size();) {
    if (done > 0 && interrupted()) return {};
    const size_t size = std::min(piece, more.size() - done);
    const Tensor hidden = compute(more.subspan(done, size), std::ssize(tokens));
    const Tensor all = last.defined() && hidden.size(1) < count ? at::cat({last, hidden}, 1) : hidden;
    last = all.narrow(1, std::max<int64_t>(0, all.size(1) - count), std::min(count, all.size(1)));
    done += size;
    if (reading) reading(static_cast<int64_t>(done), std::ssize(more));
  }
  logits_ = model_.logits(last.squeeze(0)).reshape({-1}).to(at::kCPU).contiguous();
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
  if (options.drafter && !model.model().chooses_token_by_token())
    fail_usage(
        "drafted tokens are checked together, and this model's routers choose by the whole batch: the text "
        "would be another one");
  RandomStream random(options.seed, "generate");
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  const auto left = [&] { return options.max_tokens - static_cast<int64_t>(tokens.size() - prompt.size()); };
  const auto written = [&] {
    return std::vector<int32_t>(tokens.begin() + static_cast<std::ptrdiff_t>(prompt.size()), tokens.end());
  };
  auto reading = options.reading;
  while (left() > 0 && !interrupted()) {
    std::vector<int32_t> draft;
    if (options.drafter) draft = options.drafter->draft(tokens, std::min(options.draft_tokens, left() - 1));
    const RotarySpec& rotary = model.model().spec().rotary;
    const auto after_draft = static_cast<int64_t>(tokens.size() + draft.size());
    if (turns_by_long_factors(rotary, after_draft) != turns_by_long_factors(rotary, std::ssize(tokens)))
      draft.clear();  // tokens that may not stay would turn those that do
    const auto rows = static_cast<int64_t>(draft.size()) + 1;
    std::vector<int32_t> text = tokens;
    text.insert(text.end(), draft.begin(), draft.end());
    const std::span<const float> logits = model.logits_of_last(text, rows, std::exchange(reading, {}));
    if (logits.empty()) break;
    const size_t vocabulary = logits.size() / static_cast<size_t>(rows);
    const size_t ids =
        options.num_ids > 0 ? std::min(vocabulary, static_cast<size_t>(options.num_ids)) : vocabulary;
    size_t accepted = 0;
    for (bool goes_on = true; goes_on;) {
      const int32_t token = sample(logits.subspan(accepted * vocabulary, ids), options.sampling, random);
      if (std::ranges::find(options.stop, token) != options.stop.end()) return written();
      tokens.push_back(token);
      if (see && !see(token)) return written();
      goes_on = accepted < draft.size() && token == draft[accepted];
      accepted += goes_on;
    }
    if (options.checked)
      options.checked({.drafted = rows - 1,
                       .accepted = static_cast<int64_t>(accepted),
                       .experts_in_use = model.experts_in_use()});
  }
  return written();
}

}  // namespace gatewright
