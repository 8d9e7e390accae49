#include "gatewright/evaluate/generate.h"

#include <algorithm>
#include <utility>

#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/evaluate/drafter.h"

namespace gatewright {
CachedDecoder::CachedDecoder(Decoder& model)
    : model_(model), cache_(static_cast<size_t>(model.spec().num_layers())) {}

Tensor CachedDecoder::compute(std::span<const int32_t> more, int64_t text_length,
                              std::shared_ptr<const TokenTree> tree) {
  const Tensor ids = at::tensor(at::ArrayRef<int32_t>(more.data(), more.size()), at::kLong).unsqueeze(0);
  DecoderOutput output = model_.forward({.tokens = ids.to(model_.device()), .tree = std::move(tree)},
                                        {.cache = &cache_, .text_length = text_length});
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
  return logits_with(tokens, {}, reading);
}

namespace {

/// The last token of a text and what may follow it.
std::shared_ptr<const TokenTree> tree_below_last(const DraftTree& draft) {
  std::vector<int64_t> parents = {-1};
  for (const int64_t parent : draft.parents) parents.push_back(parent + 1);
  return std::make_shared<const TokenTree>(make_token_tree(parents));
}

}  // namespace

std::span<const float> CachedDecoder::logits_with(
    std::span<const int32_t> tokens, const DraftTree& draft,
    const std::function<void(int64_t done, int64_t total)>& reading) {
  require(!tokens.empty(), "a text can't be continued from nothing: the prompt has no tokens");
  const at::NoGradGuard no_grad;
  const int64_t count = 1 + draft.size(), length = std::ssize(tokens) + draft.size();
  const std::shared_ptr<const TokenTree> tree = draft.is_chain() ? nullptr : tree_below_last(draft);
  const bool by_long_factors = turns_by_long_factors(model_.spec().rotary, length);
  if (by_long_factors != by_long_factors_) tokens_.clear();
  by_long_factors_ = by_long_factors;
  // The last token is computed in any case, for its logits.
  const std::span<const int32_t> before = tokens.first(tokens.size() - 1);
  const auto common = static_cast<size_t>(std::ranges::mismatch(before, tokens_).in1 - before.begin());
  for (KeyValueCache& layer : cache_) layer.length = static_cast<int64_t>(common);
  std::vector<int32_t> more(tokens.begin() + static_cast<std::ptrdiff_t>(common), tokens.end());
  more.insert(more.end(), draft.tokens.begin(), draft.tokens.end());
  tokens_.assign(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(common));
  // A tree is a pass of its own; all else comes in pieces.
  const size_t texts = tree ? more.size() - static_cast<size_t>(count) : more.size();
  const size_t piece = model_.chooses_token_by_token() ? static_cast<size_t>(kPiece) : more.size();
  Tensor last;  // [1, n, H], at most `count` of them
  for (size_t done = 0; done < more.size();) {
    if (done > 0 && interrupted()) return {};
    const bool of_tree = tree && done == texts;
    const size_t size = std::min(piece, (of_tree ? more.size() : texts) - done);
    const Tensor hidden = compute(std::span(more).subspan(done, size), length, of_tree ? tree : nullptr);
    const Tensor all = last.defined() && hidden.size(1) < count ? at::cat({last, hidden}, 1) : hidden;
    last = all.narrow(1, std::max<int64_t>(0, all.size(1) - count), std::min(count, all.size(1)));
    done += size;
    // An interruption leaves what was read.
    tokens_.assign(tokens.begin(),
                   tokens.begin() + static_cast<std::ptrdiff_t>(std::min(common + done, tokens.size())));
    if (reading) reading(static_cast<int64_t>(done), std::ssize(more));
  }
  draft_ = draft;
  logits_ = model_.logits(last.squeeze(0)).reshape({-1}).to(at::kCPU).contiguous();
  return {logits_.data_ptr<float>(), static_cast<size_t>(logits_.numel())};
}

void CachedDecoder::keep(std::span<const int64_t> path) {
  for (KeyValueCache& layer : cache_) keep_tokens(layer, std::ssize(tokens_), path);
  for (const int64_t node : path) tokens_.push_back(draft_.tokens.at(static_cast<size_t>(node)));
  draft_ = {};
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
    DraftTree draft;
    if (options.drafter) draft = options.drafter->draft(tokens, std::min(options.draft_tokens, left() - 1));
    const RotarySpec& rotary = model.model().spec().rotary;
    const int64_t after_draft = std::ssize(tokens) + draft.size();
    if (turns_by_long_factors(rotary, after_draft) != turns_by_long_factors(rotary, std::ssize(tokens)))
      draft = {};  // tokens that may not stay would turn those that do
    const std::span<const float> logits = model.logits_with(tokens, draft, std::exchange(reading, {}));
    if (logits.empty()) break;
    const size_t vocabulary = logits.size() / (draft.tokens.size() + 1);
    const size_t ids =
        options.num_ids > 0 ? std::min(vocabulary, static_cast<size_t>(options.num_ids)) : vocabulary;
    std::vector<int64_t> path;  // of the draft, that the model agrees with
    for (int64_t node = -1;;) {
      const auto row = static_cast<size_t>(node + 1);
      const int32_t token = sample(logits.subspan(row * vocabulary, ids), options.sampling, random);
      if (std::ranges::find(options.stop, token) != options.stop.end()) return written();
      tokens.push_back(token);
      if (see && !see(token)) return written();
      node = draft.child(node, token);
      if (node < 0) break;
      path.push_back(node);
    }
    model.keep(path);
    if (options.checked)
      options.checked(
          {.drafted = draft.size(), .accepted = std::ssize(path), .experts_in_use = model.experts_in_use()});
  }
  return written();
}

}  // namespace gatewright
