#include "experiments/small_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gatewright/layers/cross_entropy.h"
#include "gatewright/train/recipe.h"

namespace gatewright::experiments {
namespace {

std::vector<double> experts_per_token(const std::vector<RoutingRecord>& routing) {
  std::vector<double> means;
  for (const RoutingRecord& r : routing)
    means.push_back(static_cast<double>(r.assignment.token.size(0)) /
                    static_cast<double>(r.assignment.num_tokens));
  return means;
}

DecoderSpec small_spec(const std::string& recipe, int64_t vocabulary) {
  DecoderSpec spec = make_recipe(recipe, "the experiment's recipe").model;
  spec.vocab_size = vocabulary;
  return spec;
}

Tensor cross_entropy_of(Decoder& decoder, const DecoderOutput& output, const Batch& batch) {
  return linear_cross_entropy(output.hidden.reshape({-1, decoder.spec().hidden_size}), decoder.head(),
                              batch.targets.reshape({-1}));
}

}  // namespace

SuccessorLanguage::SuccessorLanguage(std::vector<int32_t> tokens, int64_t successors, RandomStream& random)
    : tokens_(std::move(tokens)) {
  next_.resize(static_cast<size_t>(std::ranges::max(tokens_)) + 1);
  for (int32_t token : tokens_) {
    std::vector<int32_t> others = tokens_;
    random.shuffle(std::span(others));
    others.resize(static_cast<size_t>(successors));
    Next& next = next_[static_cast<size_t>(token)];
    double sum = 0;
    for (int32_t other : others) {
      next.token.push_back(other);
      next.up_to.push_back(sum +=
                           -std::log1p(-random.uniform_double()));  // exponentials: Dirichlet(1) once divided
    }
    for (double& p : next.up_to) p /= sum;
  }
}

std::vector<int32_t> SuccessorLanguage::sequence(int64_t length, RandomStream& random) const {
  std::vector<int32_t> row = {tokens_[random.below(tokens_.size())]};
  while (std::ssize(row) <= length) {
    const Next& next = next_[static_cast<size_t>(row.back())];
    const auto it = std::ranges::upper_bound(next.up_to, random.uniform_double());
    row.push_back(next.token[std::min(next.token.size() - 1, static_cast<size_t>(it - next.up_to.begin()))]);
  }
  return row;
}

Batch batch_of(const std::vector<std::vector<int32_t>>& rows) {
  const auto count = std::ssize(rows), length = std::ssize(rows.front()) - 1;
  Batch batch{.tokens = at::empty({count, length}, at::kLong),
              .targets = at::empty({count, length}, at::kLong)};
  auto *token = batch.tokens.data_ptr<int64_t>(), *target = batch.targets.data_ptr<int64_t>();
  for (const std::vector<int32_t>& row : rows) {
    token = std::copy(row.begin(), row.end() - 1, token);
    target = std::copy(row.begin() + 1, row.end(), target);
  }
  return batch;
}

SmallModel::SmallModel(const std::string& recipe, int64_t vocabulary, uint64_t seed, double learning_rate)
    : decoder_(small_spec(recipe, vocabulary), seed),
      parameters_(decoder_.parameters()),
      optimizer_(parameters_, {.beta2 = 0.999, .weight_decay = 0.01}),
      learning_rate_(learning_rate) {}

void SmallModel::count_first(const std::vector<Batch>& micro_batches) {
  const at::NoGradGuard no_grad;
  const std::vector<uint64_t> random = decoder_.random_state();
  for (int64_t i = 0; i < std::ssize(micro_batches); ++i)
    decoder_.forward(micro_batches[static_cast<size_t>(i)],
                     {.training = true, .step = optimizer_.steps(), .micro_batch = i, .counting = true});
  decoder_.set_random_state(random);
}

SmallModel::Step SmallModel::step(const std::vector<Batch>& micro_batches) {
  Step result;
  const auto count = static_cast<double>(micro_batches.size());
  if (decoder_.wants_counting_pass()) count_first(micro_batches);
  for (int64_t i = 0; i < std::ssize(micro_batches); ++i) {
    const Batch& batch = micro_batches[static_cast<size_t>(i)];
    const DecoderOutput output =
        decoder_.forward(batch, {.training = true, .step = optimizer_.steps(), .micro_batch = i});
    const Tensor loss = cross_entropy_of(decoder_, output, batch);
    (output.balance_loss.defined() ? (loss + output.balance_loss) / count : loss / count).backward();
    result.cross_entropy += loss.item<double>() / count;
    const std::vector<double> experts = experts_per_token(output.routing);
    result.experts_per_token.resize(experts.size());
    for (size_t l = 0; l < experts.size(); ++l) result.experts_per_token[l] += experts[l] / count;
  }
  optimizer_.step(learning_rate_);
  optimizer_.zero_grad();
  decoder_.end_step();
  return result;
}

SmallModel::Evaluation SmallModel::evaluate(const Batch& batch) {
  const at::NoGradGuard no_grad;
  const DecoderOutput output = decoder_.forward(batch);
  return {.cross_entropy = cross_entropy_of(decoder_, output, batch).item<double>(),
          .routing = output.routing,
          .experts_per_token = experts_per_token(output.routing)};
}

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace gatewright::experiments
