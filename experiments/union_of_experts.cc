// Union of Experts (2025): a dense network cut into heads and slices that tokens choose from, against the
// dense network, dense networks of the same cost, and an ordinary mixture of experts.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "experiments/list.h"
#include "experiments/markov_domains.h"
#include "experiments/real_text.h"
#include "gatewright/experts/mlp_union.h"
#include "gatewright/layers/attention.h"
#include "gatewright/layers/selective_attention.h"

namespace gatewright::experiments {
namespace {

constexpr int64_t kDomains = 8, kHeads = 4, kSlices = 4;
constexpr Scale kFast = {.hidden_size = 32,
                         .num_layers = 2,
                         .width = 32,
                         .length = 32,
                         .rows = 16,
                         .steps = 400,
                         .fresh_rows = 256};
constexpr double kLearningRate = 3e-3;

constexpr const char* kAll = "selector = \"all\"\nweights = \"one\"\n";
constexpr const char* kTwo = "bias = true\ninit_rule = \"kaiming_uniform\"\ntop_k = 2\nweights = \"one\"\n";
constexpr const char* kLearns = "gate_gradient = \"straight_through\"\n";
constexpr const char* kBalance = "[balance.switch]\nweight = 0.01\n";
constexpr const char* kHeadBalance = "[attention.balance.switch]\nweight = 0.01\n";

struct Arm {
  const char* name;
  int64_t heads;
  int64_t slices;  // whose width the whole feed-forward has
  bool selective;
  bool learns;  // its gates, with a balance loss
  bool all;     // slices for every token
};
constexpr const char* kMixture = "top-2 of 4 MoE";
constexpr Arm kArms[] = {{"dense", kHeads, kSlices, false, false, true},
                         {"dense, half MLP", kHeads, kSlices / 2, false, false, true},
                         {"dense, half MLP and heads", kHeads / 2, kSlices / 2, false, false, true},
                         {kMixture, kHeads, kSlices, false, true, false},
                         {"UoME", kHeads, kSlices, false, false, false},
                         {"UoME, gate learns", kHeads, kSlices, false, true, false},
                         {"UoE", kHeads, kSlices, true, false, false},
                         {"UoE, gates learn", kHeads, kSlices, true, true, false}};

int64_t head_dim(const Scale& scale) { return scale.hidden_size / kHeads; }
int64_t whole_width(const Arm& arm, const Scale& scale) { return arm.slices * scale.width; }

/// All networks have GELU feed-forwards with biases, and initial weights of the spread with which linear maps
/// of this size usually begin. A dense feed-forward is the union of all its slices.
std::string recipe_of(const Arm& arm, const Scale& scale) {
  const double init = scale.init();
  std::string recipe = fmt::format(
      "[model]\nhidden_size = {}\nnum_layers = {}\nnum_heads = {}\nhead_dim = {}\nqk_norm = \"none\"\ninit = "
      "{:.4g}\n",
      scale.hidden_size, scale.num_layers, arm.heads, head_dim(scale), init);
  if (arm.selective) {
    recipe += fmt::format("attention = \"selective\"\n[attention]\ntop_k = {}\ninit_heads = {:.4g}\n{}{}",
                          kHeads / 2, init, arm.learns ? kLearns : "", arm.learns ? kHeadBalance : "");
  }
  if (arm.name == kMixture)
    return recipe +
           fmt::format(
               "[experts]\nbank = \"gelu\"\nbiases = true\nnum_experts = {}\nwidth = {}\ninit = {:.4g}\n"
               "[routing]\nbias = true\ninit_rule = \"kaiming_uniform\"\ntop_k = 2\n{}",
               kSlices, scale.width, init, kBalance);
  recipe += fmt::format(
      "[experts]\nbank = \"mlp_union\"\nnum_experts = {}\nwidth = {}\ninit = {:.4g}\n[routing]\n{}", kSlices,
      whole_width(arm, scale), init, arm.all ? kAll : kTwo);
  return arm.learns ? recipe + kLearns + kBalance : recipe;
}

/// Tokens of each head in each fresh sequence.
std::vector<int64_t> list_lengths(const RoutingRecord& heads, const Scale& scale) {
  const Tensor row = heads.assignment.token.div(scale.length, "floor");
  const Tensor list = expert_of_pairs(heads.assignment) * scale.fresh_rows + row;
  const Tensor counts = at::bincount(list, {}, kHeads * scale.fresh_rows);
  const auto* count = counts.data_ptr<int64_t>();
  return {count, count + counts.numel()};
}

/// Of the forward pass for one token, embedding and head aside.
double multiply_adds(const Arm& arm, const Scale& scale, const SmallModel::Evaluation& evaluation) {
  const auto tokens = static_cast<double>(scale.fresh_rows * scale.length);
  double count = 0;
  for (size_t l = 0; l < evaluation.routing.size(); ++l) {
    const std::vector<int64_t> lists =
        arm.selective ? list_lengths(evaluation.attention.at(l), scale)
                      : std::vector<int64_t>(static_cast<size_t>(arm.heads * scale.fresh_rows), scale.length);
    const AttentionCost cost = selective_cost(lists, scale.hidden_size, head_dim(scale));
    count += (cost.projections + 2 * cost.scores) / tokens;
    const auto pairs = static_cast<double>(evaluation.routing[l].assignment.token.size(0));
    count += 2 * static_cast<double>(scale.hidden_size * whole_width(arm, scale)) / kSlices * pairs / tokens;
  }
  return count;
}

/// Every expert for every token, with weights of 1.
Assignment full_selection(int64_t tokens, int64_t experts) {
  return {.expert_begin = at::arange(experts + 1, at::kLong) * tokens,
          .token = at::arange(tokens, at::kLong).repeat({experts}),
          .weight = at::ones({tokens * experts}, at::kDouble),
          .num_tokens = tokens};
}

Tensor normals(at::IntArrayRef shape, RandomStream& random) {
  Tensor values = at::empty(shape, at::kDouble);
  for (int64_t i = 0; i < values.numel(); ++i) values.data_ptr<double>()[i] = random.normal();
  return values;
}

/// The largest difference between all slices and heads together and the dense network that they are cut from,
/// in double precision.
double largest_difference(uint64_t seed) {
  const at::NoGradGuard no_grad;
  constexpr int64_t kSequences = 2, kLength = 32, kHidden = 32, kHeadDim = kHidden / kHeads, kWidth = 128;
  RandomStream random(seed, "union-of-experts equivalence");
  const Tensor x = normals({kSequences, kLength, kHidden}, random), flat = x.view({-1, kHidden});
  const FfnTensors mlp{.up = normals({kWidth, kHidden}, random),
                       .down = normals({kHidden, kWidth}, random),
                       .up_bias = normals({kWidth}, random),
                       .down_bias = normals({kHidden}, random)};
  const Tensor dense = at::linear(at::gelu(at::linear(flat, mlp.up, mlp.up_bias)), mlp.down, mlp.down_bias);
  const int64_t tokens = flat.size(0);
  const Tensor slices = mlp_union(flat, full_selection(tokens, kSlices), mlp, Activation::gelu);
  const HeadWeights w{.query = normals({kHidden, kHidden}, random),
                      .key = normals({kHidden, kHidden}, random),
                      .value = normals({kHidden, kHidden}, random),
                      .output = normals({kHidden, kHidden}, random)};
  const auto heads_of = [&](const Tensor& weight) {
    return at::linear(x, weight).view({kSequences, kLength, kHeads, kHeadDim});
  };
  const Tensor whole = at::linear(
      attention(heads_of(w.query), heads_of(w.key), heads_of(w.value), {}).reshape_as(x), w.output);
  const Tensor heads = selective_attention(x, full_selection(tokens, kHeads), w);
  return std::max((slices - dense).abs().max().item<double>() / dense.abs().max().item<double>(),
                  (heads - whole).abs().max().item<double>() / whole.abs().max().item<double>());
}

Domains make_domains(const RealText* text, RandomStream& random) {
  if (text) return text->domains(RealText::kDomains);
  return generated_domains(make_markov_domains(random, kDomains), kDomainVocabulary);
}

void run(uint64_t seed, Recorder& recorder) {
  const Scale scale = recorder.scale(kFast, 128);
  int64_t done = 0;
  const auto stepped = [&] {
    recorder.progress(static_cast<double>(++done) / static_cast<double>(std::ssize(kArms) * scale.steps));
  };
  for (const Arm& arm : kArms) {
    RandomStream tables(seed, "union-of-experts domains"), text(seed, "union-of-experts text"),
        fresh(seed, "union-of-experts fresh text");
    const Domains domains = make_domains(recorder.real_text(), tables);
    SmallModel model(recipe_of(arm, scale), domains.vocabulary, seed,
                     recorder.learning_rate(arm.name, kLearningRate), scale.steps);
    train(model, domains.training, scale, text, stepped);
    const SmallModel::Evaluation result =
        model.evaluate(text_of(domains.fresh, scale.fresh_rows, scale.length, fresh));
    recorder.add(arm.name, "validation loss", result.cross_entropy);
    recorder.add(arm.name, "multiply-adds a token", multiply_adds(arm, scale, result));
  }
  recorder.add("UoE", "difference at full selection", largest_difference(seed));
}

std::vector<Finding> judge(const Results& r) {
  const auto losses = [&](const char* arm) -> const std::vector<double>& {
    return r.at(arm, "validation loss").values;
  };
  const auto cost = [&](const char* arm) { return r.mean(arm, "multiply-adds a token"); };
  double worst_slices = -INFINITY, worst_union = -INFINITY;
  for (size_t s = 0; s < losses("dense").size(); ++s) {
    worst_slices = std::max(worst_slices, losses("UoME")[s] - losses("dense")[s]);
    worst_union = std::max(worst_union, losses("UoE")[s] - losses("dense")[s]);
  }
  const double difference = std::ranges::max(r.at("UoE", "difference at full selection").values);
  const double share = cost("UoE") / cost("dense");
  const double behind_half = r.mean("UoME", "validation loss") - r.mean("dense, half MLP", "validation loss");
  return {{"at full selection it is the dense network, and with half of the heads and slices it costs at "
           "most half",
           fmt::format("relative difference {:.1e}, {:.2f} of the multiply-adds", difference, share),
           difference < 1e-12 && share <= 0.5, difference < 1e-12 && share < 1},
          {"with half of the slices it is within 0.06 nats of dense in every seed, and on average at most "
           "0.01 worse "
           "than a dense network with half of the feed-forward",
           fmt::format("{:+.3f} in the worst seed, {:+.4f}", worst_slices, behind_half),
           worst_slices <= 0.06 && behind_half <= 0.01, worst_slices <= 0.12},
          {"with half of the heads and slices it is within 0.1 nats of dense in every seed",
           fmt::format("{:+.3f} in the worst seed", worst_union), worst_union <= 0.1, worst_union <= 0.2}};
}

std::vector<std::string> arm_names() {
  std::vector<std::string> names;
  for (const Arm& arm : kArms) names.emplace_back(arm.name);
  return names;
}

}  // namespace

Experiment union_of_experts() {
  return {
      .slug = "union-of-experts",
      .title = "Union of Experts",
      .source = "Union of Experts 2025, arXiv 2503.02495",
      .claim =
          "a dense transformer cut into heads and slices keeps its quality at half of the cost when each "
          "token visits half of them",
      .published = "perplexity 2.38 lower than the best compared MoE at 76 % of its operations",
      .criterion =
          "equal to dense at full selection; half of the slices within 0.06 nats of dense and 0.01 of the "
          "dense network with half of the feed-forward; half of the heads as well within 0.1",
      .arms = arm_names(),
      .budget_seconds = 20,
      .full_seconds = 600,
      .tuned_by = "validation loss",
      .learning_rate = kLearningRate,
      .run = run,
      .judge = judge};
}

}  // namespace gatewright::experiments
