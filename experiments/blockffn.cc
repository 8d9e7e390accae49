// BlockFFN (Song et al. 2025): one layer on a stream whose neighbours are alike, with and without the losses
// for sparse chunks, and the time of a block of tokens that uses a quarter of the experts; with the budget
// full a language model too.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>
#include <span>
#include <utility>

#include "experiments/clusters.h"
#include "experiments/list.h"
#include "experiments/real_text.h"
#include "experiments/small_model.h"
#include "gatewright/experts/ffn_function.h"
#include "gatewright/experts/registry.h"
#include "gatewright/routing/sparsity.h"

namespace gatewright::experiments {
namespace {

// ---- The losses, in one layer ----

constexpr int64_t kWidth = 16, kTargetWidth = 64, kCentres = 8, kStay = 16, kExperts = 32, kExpertWidth = 4;
constexpr int64_t kLength = 256, kSteps = 700, kChunk = 8, kFreshLength = 4096;
constexpr double kLearningRate = 3e-3, kClip = 1, kInit = 0.1;

struct Arm {
  const char* name;
  double locality, chunk_sparsity;  // weights of the losses
};
constexpr Arm kArms[] = {
    {"no sparsity loss", 0, 0}, {"2e-3 and 0.3", 2e-3, 0.3}, {"1e-2 and 1.0", 1e-2, 1.0}};

/// Points around a centre that changes every 16 positions, and a fixed random function of them.
class LocalStream {
 public:
  explicit LocalStream(RandomStream& random)
      : centres_(normal_tensor({kCentres, kWidth}, random) * 1.5),
        up_(normal_tensor({kTargetWidth, kWidth}, random) / std::sqrt(kWidth)),
        down_(normal_tensor({kWidth, kTargetWidth}, random) / std::sqrt(kTargetWidth)) {}

  struct Draw {
    Tensor x, target;  // [length, 16]; x divided by its root mean square
  };
  Draw draw(int64_t length, RandomStream& random) const {
    const Tensor centre = draw_indices(kCentres, length / kStay, random).repeat_interleave(kStay);
    const Tensor x = centres_.index_select(0, centre) + normal_tensor({length, kWidth}, random);
    return {.x = x / x.square().mean(-1, /*keepdim=*/true).sqrt(),
            .target = at::relu(x.mm(up_.t())).mm(down_.t())};
  }

 private:
  Tensor centres_, up_, down_;
};

RouterSpec router_of(const Arm& arm) {
  RouterSpec spec = {.scorer = make_piece(scorers(), "linear", {{"init", kInit}}),
                     .selector = make_piece(choice::selectors(), "relu"),
                     .activation = choice::Activation::kReluRms};
  if (arm.locality > 0)
    spec.balance.push_back(make_piece(balance_terms(), "activation_locality", {{"weight", arm.locality}}));
  if (arm.chunk_sparsity > 0)
    spec.balance.push_back(
        make_piece(balance_terms(), "chunk_sparsity", {{"weight", arm.chunk_sparsity}, {"chunk", kChunk}}));
  return spec;
}

class BlockLayer {
 public:
  BlockLayer(const Arm& arm, RandomStream random)
      : router_(router_of(arm), {.hidden_size = kWidth, .num_experts = kExperts}, random),
        experts_(
            make_expert_bank(make_piece(expert_banks(), "silu", {{"width", kExpertWidth}, {"init", kInit}}),
                             {}, {.hidden_size = kWidth, .num_experts = kExperts}, random)) {
    router_.collect(parameters_, "mlp.router_proj");
    experts_->collect(parameters_, "mlp");
  }

  struct Output {
    Tensor y;
    RoutingRecord routing;
  };
  Output forward(const Tensor& x, bool training) {
    RoutingRecord record = router_.route(x, {.training = training});
    Tensor y = experts_->forward(x, record.assignment, {.training = training});
    return {.y = std::move(y), .routing = std::move(record)};
  }
  void end_step() {
    router_.observe(router_.observations());
    router_.end_step();
  }
  const ParameterList& parameters() const { return parameters_; }

 private:
  Router router_;
  std::unique_ptr<ExpertBank> experts_;
  ParameterList parameters_;
};

void run_arm(const Arm& arm, uint64_t seed, const std::function<void()>& stepped, Recorder& recorder) {
  RandomStream function(seed, "blockffn stream"), text(seed, "blockffn positions"),
      fresh(seed, "blockffn fresh positions");
  const LocalStream stream(function);
  BlockLayer layer(arm, RandomStream(seed, "blockffn weights"));
  AdamW optimizer(layer.parameters(), {.beta2 = 0.999, .weight_decay = 0.01});
  const double learning_rate = recorder.learning_rate(arm.name, kLearningRate);
  for (int64_t step = 0; step < kSteps; ++step) {
    const LocalStream::Draw draw = stream.draw(kLength, text);
    const BlockLayer::Output output = layer.forward(draw.x, true);
    const Tensor error = at::mse_loss(output.y, draw.target);
    (output.routing.loss.defined() ? error + output.routing.loss : error).backward();
    optimizer.step(learning_rate, clip_factor(gradient_norm(layer.parameters()), kClip));
    optimizer.zero_grad();
    layer.end_step();
    stepped();
  }
  const at::NoGradGuard no_grad;
  const LocalStream::Draw draw = stream.draw(kFreshLength, fresh);
  const BlockLayer::Output output = layer.forward(draw.x, false);
  const Tensor active = activation_pattern(output.routing.assignment);
  recorder.add(arm.name, "relative error",
               (at::mse_loss(output.y, draw.target) / draw.target.var(/*unbiased=*/false)).item<double>());
  recorder.add(arm.name, "token-level sparsity", token_level_sparsity(active));
  recorder.add(arm.name, "chunk-level sparsity", chunk_level_sparsity(active, kChunk));
}

// ---- The time of a block of tokens ----

constexpr int64_t kBlockHidden = 1024, kBlockExperts = 64, kBlockWidth = 64, kBlockTokens[] = {1, 32};

/// The least seconds of each of two calls, which take turns.
std::pair<double, double> least_seconds(const std::function<void()>& first,
                                        const std::function<void()>& second) {
  constexpr int kRepeats = 20;
  const auto timed = [](const std::function<void()>& call) {
    const auto start = std::chrono::steady_clock::now();
    call();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  std::pair<double, double> least(INFINITY, INFINITY);
  for (int i = 0; i < kRepeats; ++i) {
    least.first = std::min(least.first, timed(first));
    least.second = std::min(least.second, timed(second));
  }
  return least;
}

/// Scores [tokens, 64] of which only 16 experts' differ from zero, those in about half of the tokens.
Tensor block_scores(int64_t tokens, RandomStream& random) {
  Tensor scores = at::zeros({tokens, kBlockExperts});
  std::vector<int64_t> experts(kBlockExperts);
  std::iota(experts.begin(), experts.end(), 0);
  random.shuffle(std::span(experts));
  for (int64_t u = 0; u < kBlockExperts / 4; ++u) {
    const auto own =
        static_cast<int64_t>(random.below(static_cast<uint64_t>(tokens)));  // at least one uses it
    for (int64_t t = 0; t < tokens; ++t) {
      if (t == own || random.below(2) == 0)
        scores[t][experts[static_cast<size_t>(u)]] = 0.5 + random.uniform();
    }
  }
  return scores;
}

std::string block_name(int64_t tokens) { return fmt::format("block of {}", tokens); }

/// The experts whose score is not zero.
Assignment used_experts(const Tensor& scores) {
  choice::Rows rows;
  for (int64_t t = 0; t < scores.size(0); ++t) {
    const float* row = scores.data_ptr<float>() + t * kBlockExperts;
    for (int32_t e = 0; e < kBlockExperts; ++e) {
      if (row[e] != 0) rows.expert.push_back(e);
    }
    rows.row_begin.push_back(std::ssize(rows.expert));
  }
  return make_assignment(choice::by_expert(rows, kBlockExperts), scores);
}

/// The dense path is two products with all experts side by side, laid out for them beforehand; the sparse
/// path the library's own, which reads the weights of the experts in use.
void time_blocks(uint64_t seed, Recorder& recorder) {
  const at::NoGradGuard no_grad;
  RandomStream random(seed, "blockffn block");
  const double scale = 1 / std::sqrt(static_cast<double>(kBlockHidden));
  const FfnTensors experts{.up = normal_tensor({kBlockExperts, kBlockWidth, kBlockHidden}, random) * scale,
                           .down = normal_tensor({kBlockExperts, kBlockHidden, kBlockWidth}, random) * scale};
  const Tensor up = experts.up.flatten(0, 1), down = experts.down.transpose(1, 2).flatten(0, 1).contiguous();
  for (const int64_t tokens : kBlockTokens) {
    const Tensor x = normal_tensor({tokens, kBlockHidden}, random), scores = block_scores(tokens, random);
    const Assignment used = used_experts(scores);
    const auto dense = [&] {
      const Tensor inner = at::silu(x.mm(up.t())).view({tokens, kBlockExperts, kBlockWidth});
      return (inner * scores.unsqueeze(-1)).flatten(1).mm(down);
    };
    const auto sparse = [&] { return expert_ffn(x, used, experts, Activation::silu); };
    const auto [dense_seconds, sparse_seconds] = least_seconds([&] { dense(); }, [&] { sparse(); });
    recorder.add(block_name(tokens), "dense over sparse time", dense_seconds / sparse_seconds);
    recorder.add(block_name(tokens), "relative difference",
                 ((dense() - sparse()).norm() / dense().norm()).item<double>());
  }
}

// ---- A language model ----

/// The weights of the paper, which act over long trainings, and stronger ones; chunks of 8 in all.
constexpr Arm kModelArms[] = {
    {"no sparsity loss", 0, 0}, {"2e-3 and 0.05", 2e-3, 0.05}, {"2e-2 and 1.0", 2e-2, 1.0}};
constexpr const char *kModelLoss = "language model: validation loss",
                     *kModelTokens = "language model: token-level sparsity",
                     *kModelChunks = "language model: chunk-level sparsity";

std::string recipe_of(const Arm& arm, const Scale& scale) {
  std::string recipe = fmt::format(
      "{0}[experts]\nbank = \"silu\"\nnum_experts = {1}\nwidth = {2}\ninit = {3:.4g}\n"
      "[routing]\nselector = \"relu\"\nactivation = \"relu_rms\"\ninit = {3:.4g}\n",
      scale.model_recipe(), kExperts, scale.width, scale.init());
  if (arm.locality > 0) recipe += fmt::format("[balance.activation_locality]\nweight = {}\n", arm.locality);
  if (arm.chunk_sparsity > 0)
    recipe += fmt::format("[balance.chunk_sparsity]\nweight = {}\nchunk = {}\n", arm.chunk_sparsity, kChunk);
  return recipe;
}

void run_language_model(uint64_t seed, const FullBudget& full, Recorder& recorder) {
  const Scale scale = full.scale_of(16);
  const Domains domains = full.text.domains(RealText::kDomains);
  int64_t done = 0;
  const auto stepped = [&] {
    recorder.progress(static_cast<double>(++done) /
                      static_cast<double>(std::ssize(kModelArms) * scale.steps));
  };
  for (const Arm& arm : kModelArms) {
    RandomStream text(seed, "blockffn text"), fresh(seed, "blockffn fresh text");
    SmallModel model(recipe_of(arm, scale), domains.vocabulary, seed, kLearningRate);
    train(model, domains.training, scale, text, stepped);
    const SmallModel::Evaluation result =
        model.evaluate(text_of(domains.fresh, scale.fresh_rows, scale.length, fresh));
    std::vector<double> tokens, chunks;
    for (const RoutingRecord& r : result.routing) {
      const Tensor active = activation_pattern(r.assignment);
      tokens.push_back(token_level_sparsity(active));
      chunks.push_back(chunk_level_sparsity(active, kChunk));
    }
    recorder.add(arm.name, kModelLoss, result.cross_entropy);
    recorder.add(arm.name, kModelTokens, mean_of(tokens));
    recorder.add(arm.name, kModelChunks, mean_of(chunks));
  }
}

void run(uint64_t seed, Recorder& recorder) {
  if (const FullBudget* full = recorder.full()) run_language_model(seed, *full, recorder);
  int64_t done = 0;
  const auto stepped = [&] {
    recorder.progress(recorder.full() ? 1 : static_cast<double>(++done) / (std::size(kArms) * kSteps));
  };
  for (const Arm& arm : kArms) run_arm(arm, seed, stepped, recorder);
  time_blocks(seed, recorder);
}

Finding sparse_language_model(const Results& r) {
  const char *none = kModelArms[0].name, *strong = kModelArms[2].name;
  const double tokens = r.mean(strong, kModelTokens), chunks = r.mean(strong, kModelChunks),
               plain_chunks = r.mean(none, kModelChunks);
  const double cost = r.mean(strong, kModelLoss) - r.mean(none, kModelLoss);
  return {
      .condition =
          "a language model with the weights 2e-2 and 1.0: chunk-level sparsity of at least 0.3, at a loss "
          "at most 0.08 nats above that without the losses",
      .measured = fmt::format("{:.2f} (without {:.2f}; token-level {:.2f}), {:+.4f}", chunks, plain_chunks,
                              tokens, cost),
      .met = chunks >= 0.3 && cost <= 0.08,
      .direction = chunks > plain_chunks};
}

std::vector<Finding> judge(const Results& r) {
  const auto mean = [&](size_t arm, const char* metric) { return r.mean(kArms[arm].name, metric); };
  constexpr const char *kTokens = "token-level sparsity", *kChunks = "chunk-level sparsity",
                       *kError = "relative error";
  const double twice = mean(1, kChunks) / mean(0, kChunks), thrice = mean(2, kChunks) / mean(0, kChunks);
  const double tokens[] = {mean(0, kTokens), mean(1, kTokens), mean(2, kTokens)};
  const bool rises = tokens[0] < tokens[1] && tokens[1] < tokens[2];
  const double cost = mean(2, kError) / mean(0, kError);
  double least_speedup = INFINITY, largest_difference = 0;
  for (const int64_t n : kBlockTokens) {
    least_speedup = std::min(least_speedup, r.mean(block_name(n), "dense over sparse time"));
    largest_difference =
        std::max(largest_difference, std::ranges::max(r.at(block_name(n), "relative difference").values));
  }
  std::vector<Finding> findings = {
      {"chunk-level sparsity (8 tokens) at least doubles with the smaller weights and triples with the "
       "larger",
       fmt::format("{:.2f} and {:.2f} times", twice, thrice), twice >= 2 && thrice >= 3,
       twice > 1 && thrice > twice},
      {"token-level sparsity rises with the weights",
       fmt::format("{:.2f}, {:.2f}, {:.2f}", tokens[0], tokens[1], tokens[2]), rises, tokens[2] > tokens[0]},
      {"error with the larger weights at most 2.5 times that without the losses",
       fmt::format("{:.2f} times", cost), cost <= 2.5, cost <= 5},
      {"blocks of 1 and 32 tokens that use a quarter of the experts: the sparse path at least twice as fast "
       "as the dense one, with the same output to 1e-3",
       fmt::format("{:.2f} times, {:.1g} apart", least_speedup, largest_difference),
       least_speedup >= 2 && largest_difference <= 1e-3, least_speedup > 1 && largest_difference <= 1e-3}};
  if (r.has(kModelArms[0].name, kModelLoss)) findings.push_back(sparse_language_model(r));
  return findings;
}

}  // namespace

Experiment blockffn() {
  return {
      .slug = "blockffn",
      .title = "BlockFFN (chunk-level sparsity)",
      .source = "Song et al. 2025, arXiv 2507.08771",
      .claim =
          "two losses make the experts of a token few and those of its neighbours the same, and blocks of "
          "tokens fast",
      .published = "over 80 % token-level and 70 % chunk-level (8) sparsity, kernels up to 3.67 times faster",
      .criterion =
          "chunk-level sparsity doubles and triples with the losses' weights, token-level sparsity "
          "rises, error at most 2.5 times; the sparse path at least twice as fast on a quarter of "
          "the experts",
      .arms = {"no sparsity loss", "2e-3 and 0.3", "1e-2 and 1.0"},
      .budget_seconds = 8,
      .full_seconds = 270,
      .tuned_by = "relative error",
      .learning_rate = kLearningRate,
      .run = run,
      .judge = judge};
}

}  // namespace gatewright::experiments
