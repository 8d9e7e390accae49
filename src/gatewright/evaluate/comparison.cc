#include "gatewright/evaluate/comparison.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/evaluate/trace_of.h"
#include "gatewright/train/packed_tensors.h"

namespace gatewright {
namespace {

constexpr int64_t kTokens = 256;  // whose logits are there at once

/// Of tokens that have a target.
struct Block {
  Tensor log_p;    // [n, V]
  Tensor targets;  // [n]
};

Block predictions(const Decoder& model, const Tensor& hidden, const Tensor& targets) {
  return {.log_p = at::log_softmax(model.logits(hidden).to(at::kCPU), -1), .targets = targets};
}

double loss_of(const Block& block) {
  return -block.log_p.gather(1, block.targets.unsqueeze(1)).sum(at::kDouble).item<double>();
}

void add_predictions(Comparison& result, const Block& of_model, const Block& of_reference) {
  const Tensor kl = (of_reference.log_p.exp() * (of_reference.log_p - of_model.log_p)).sum(1).contiguous();
  result.kl.insert(result.kl.end(), kl.data_ptr<float>(), kl.data_ptr<float>() + kl.numel());
  result.same_first += of_model.log_p.argmax(1).eq(of_reference.log_p.argmax(1)).sum().item<int64_t>();
  result.loss += loss_of(of_model);
  result.reference_loss += loss_of(of_reference);
}

/// Chosen experts of real tokens; both ascend within a token.
void add_choices(Comparison& result, const RoutingRecord& of_model, const RoutingRecord& of_reference,
                 const Tensor& real) {
  const LayerTrace a = layer_trace(of_model), b = layer_trace(of_reference);
  const Tensor is_real = real.to(at::kCPU).contiguous();
  for (size_t t = 0; t + 1 < b.row_begin.size(); ++t) {
    if (!is_real.data_ptr<bool>()[t]) continue;
    const auto row = [t](const LayerTrace& l) {
      return std::span(l.expert).subspan(static_cast<size_t>(l.row_begin[t]),
                                         static_cast<size_t>(l.row_begin[t + 1] - l.row_begin[t]));
    };
    std::vector<int32_t> both;
    std::ranges::set_intersection(row(a), row(b), std::back_inserter(both));
    result.chosen += std::ssize(row(b));
    result.chosen_by_both += std::ssize(both);
  }
}

void check(const Decoder& model, const Decoder& reference) {
  require(model.spec().vocab_size == reference.spec().vocab_size,
          "models with {} and {} tokens can't be compared: their predictions are about other things",
          model.spec().vocab_size, reference.spec().vocab_size);
}

}  // namespace

double Comparison::mean_kl() const {
  return kl.empty() ? 0 : std::accumulate(kl.begin(), kl.end(), 0.0) / static_cast<double>(kl.size());
}

double Comparison::kl_percentile(double share) const {
  if (kl.empty()) return 0;
  const double place = share * static_cast<double>(kl.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, kl.size() - 1);
  return kl[below] + (place - static_cast<double>(below)) * (kl[above] - kl[below]);
}

double Comparison::agreement() const {
  return kl.empty() ? 1 : static_cast<double>(same_first) / static_cast<double>(kl.size());
}

double Comparison::expert_agreement() const {
  return chosen == 0 ? 1 : static_cast<double>(chosen_by_both) / static_cast<double>(chosen);
}

Comparison compare_models(Decoder& model, Decoder& reference, ValidationStream& stream, int64_t batch_size,
                          const std::function<void(int64_t)>& progress) {
  check(model, reference);
  const at::NoGradGuard no_grad;
  Comparison result;
  int64_t done = 0;
  stream.rewind();
  while (!interrupted()) {
    const PackedBatch packed = stream.next(batch_size);
    if (packed.sequences == 0) break;
    const Batch batch = to_batch(packed, model.device());
    const DecoderOutput a = model.forward(batch), b = reference.forward(to_batch(packed, reference.device()));
    const Tensor targets = batch.targets.reshape({-1}).to(at::kCPU),
                 with_target = targets.ge(0).nonzero().squeeze(1);
    const auto rows = [&](const DecoderOutput& output) {
      return output.hidden.reshape({-1, output.hidden.size(-1)});
    };
    for (int64_t first = 0; first < with_target.size(0); first += kTokens) {
      const Tensor chosen = with_target.narrow(0, first, std::min(kTokens, with_target.size(0) - first));
      const Tensor theirs = targets.index_select(0, chosen);
      add_predictions(result, predictions(model, rows(a).index_select(0, chosen.to(model.device())), theirs),
                      predictions(reference, rows(b).index_select(0, chosen.to(reference.device())), theirs));
    }
    require(a.routing.size() == b.routing.size() || a.routing.empty() || b.routing.empty(),
            "models with {} and {} routed layers can't be compared", a.routing.size(), b.routing.size());
    for (size_t i = 0; i < std::min(a.routing.size(), b.routing.size()); ++i)
      add_choices(result, a.routing[i], b.routing[i], targets.ge(0));
    if (progress) progress(done += packed.sequences);
  }
  std::ranges::sort(result.kl);
  const auto tokens = static_cast<double>(std::max<int64_t>(result.tokens(), 1));
  result.loss /= tokens;
  result.reference_loss /= tokens;
  return result;
}

}  // namespace gatewright
