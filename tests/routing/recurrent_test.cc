// The recurrent scorer (RMoE): its cell by hand, what its variants hand on, its gradient, its pooled loss.
#include "gatewright/routing/scorers/recurrent.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "gatewright/routing/balance/pooled_switch.h"
#include "gatewright/routing/choice/selectors/row_selectors.h"
#include "routing_testing.h"

namespace gatewright {
namespace {

constexpr int64_t kHidden = 6, kExperts = 5, kSize = 3;

/// Scorers of one network over fixed inputs, evaluated in any order.
class Chain {
 public:
  explicit Chain(const Given& given, int64_t layers = 3) {
    RandomStream random(1, "chain");
    Given values = {{"recurrent_size", kSize}, {"init", 0.7}};
    for (const auto& [name, value] : given) values[name] = value;
    for (int64_t l = 0; l < layers; ++l) {
      const RouterSizes sizes{.hidden_size = kHidden, .num_experts = kExperts, .network = &network_};
      scorers_.push_back(
          scorers().at("recurrent").make(make_piece(scorers(), "recurrent", values).values, sizes, random));
      inputs_.push_back(normals({7, kHidden}, random));
    }
  }
  /// The logits of each layer, by layer.
  std::vector<Tensor> logits(const std::vector<size_t>& order) {
    CarriedState carried;
    std::vector<Tensor> result(scorers_.size());
    for (size_t l : order) result[l] = scorers_[l]->logits(inputs_[l], {.carried = &carried});
    return result;
  }
  ParameterList parameters() const {
    ParameterList list;
    network_.collect(list, "model.");
    for (size_t l = 0; l < scorers_.size(); ++l) scorers_[l]->collect(list, std::to_string(l));
    return list;
  }
  Tensor parameter(const std::string& name) const {
    for (const NamedTensor& p : parameters()) {
      if (p.name == name) return p.tensor;
    }
    ADD_FAILURE() << "no parameter " << name;
    return {};
  }
  std::vector<Tensor>& inputs() { return inputs_; }

 private:
  SharedModules network_{1};
  std::vector<std::unique_ptr<Scorer>> scorers_;
  std::vector<Tensor> inputs_;
};

GateWeights ones_gate() { return {at::ones({1, 1}), at::ones({1, 1}), at::zeros({1}), at::zeros({1})}; }

TEST(GruCell, IsComputedByHand) {
  const Tensor one = at::ones({1, 1}), zero = at::zeros({1, 1});
  const Tensor next = gru_cell(one, zero, {ones_gate(), ones_gate(), ones_gate()});
  EXPECT_NEAR(next.item<double>(), 0.204824, 1e-6) << "(1 - sigmoid(1)) tanh(1) = 0.268941 x 0.761594";
}

TEST(GruCell, GatesTheHiddenPartOfTheCandidateWithItsBias) {
  GateWeights candidate = ones_gate();
  candidate.hidden_bias = at::full({1}, 2.0);
  GateWeights closed = ones_gate();
  closed.input_bias = at::full({1}, -60.0);  // r = 0, z = 0
  const Tensor state = at::full({1, 1}, 0.5);
  EXPECT_NEAR(gru_cell(at::ones({1, 1}), state, {closed, closed, candidate}).item<double>(), std::tanh(1.0),
              1e-6)
      << "with r = 0 neither the state nor its bias reaches the candidate";
  EXPECT_NEAR(rnn_cell(at::ones({1, 1}), state, candidate).item<double>(), std::tanh(3.5), 1e-6);
}

TEST(RecurrentScorer, DependsOnTheOrderOfTheLayersOnlyWhenTheStateIsPassed) {
  for (const auto& [state, passes] :
       std::map<std::string, bool>{{"passed", true}, {"detach", true}, {"not_passing", false}}) {
    Chain chain({{"state", state}});
    const auto forward = chain.logits({0, 1, 2}), permuted = chain.logits({2, 0, 1});
    for (size_t l = 0; l < 3; ++l)
      EXPECT_EQ(at::equal(forward[l], permuted[l]), !passes) << state << " layer " << l;
  }
}

TEST(RecurrentScorer, BeginsAtZeroInEveryPass) {
  Chain chain({});
  EXPECT_TRUE(at::equal(chain.logits({0, 1, 2})[2], chain.logits({0, 1, 2})[2]));
  EXPECT_TRUE(
      at::equal(chain.logits({0})[0], Chain(Given{{"state", std::string("not_passing")}}).logits({0})[0]));
}

TEST(RecurrentScorer, WithAClosedUpdateGateRoutesUniformly) {
  Chain chain({});
  chain.parameter("model.rnn_router.bias_iz").detach().fill_(50);
  for (const Tensor& logits : chain.logits({0, 1, 2})) {
    EXPECT_TRUE(at::equal(logits, at::zeros({7, kExperts})));
    const Scores scores = scores_of(logits);
    const Assignment chosen = weigh({.weighting = choice::Weighting::kRenormalised}, scores,
                                    choice::TopK(2).choose(rows_of(scores.probabilities), {}));
    EXPECT_EQ(to_floats(expert_counts(chosen)), (std::vector<float>{7, 7, 0, 0, 0})) << "ties to lower ids";
    for (float w : to_floats(chosen.weight)) EXPECT_FLOAT_EQ(w, 0.5f);
  }
}

TEST(RecurrentScorer, KeepsEachTokenToItself) {
  Chain chain({});
  const auto before = chain.logits({0, 1, 2});
  for (Tensor& x : chain.inputs()) x[4] += 1;
  const auto after = chain.logits({0, 1, 2});
  for (size_t l = 0; l < 3; ++l) {
    for (int64_t t = 0; t < 7; ++t) EXPECT_EQ(at::equal(before[l][t], after[l][t]), t != 4) << l << " " << t;
  }
}

TEST(RecurrentScorer, LetsTheGradientThroughTheChainOnlyWhenTheStateIsPassed) {
  for (const auto& [state, reaches] :
       std::map<std::string, bool>{{"passed", true}, {"detach", false}, {"not_passing", false}}) {
    Chain chain({{"state", state}});
    chain.logits({0, 1, 2})[2].square().sum().backward();
    const Tensor gradient = chain.parameter("0.weight1").grad();
    EXPECT_EQ(gradient.defined() && gradient.abs().sum().item<double>() > 0, reaches) << state;
  }
}

TEST(RecurrentScorer, KeepsItsCellOnceForAllLayers) {
  std::vector<std::string> names;
  for (const NamedTensor& p : Chain({}, 2).parameters()) names.push_back(p.name);
  EXPECT_EQ(names, (std::vector<std::string>{
                       "model.rnn_router.weight_ir", "model.rnn_router.weight_hr", "model.rnn_router.bias_ir",
                       "model.rnn_router.bias_hr", "model.rnn_router.weight_iz", "model.rnn_router.weight_hz",
                       "model.rnn_router.bias_iz", "model.rnn_router.bias_hz", "model.rnn_router.weight_in",
                       "model.rnn_router.weight_hn", "model.rnn_router.bias_in", "model.rnn_router.bias_hn",
                       "0.weight1", "0.weight2", "1.weight1", "1.weight2"}));
  const Chain plain({{"cell", "rnn"}, {"shared_projector", true}}, 2);
  EXPECT_EQ(plain.parameters().size(), 4u + 1 + 2);
  EXPECT_EQ(plain.parameter("model.rnn_router.projector").sizes(), (std::vector<int64_t>{kSize, kHidden}));
  EXPECT_NE(plain.parameter("model.rnn_router.bias_in").abs().sum().item<double>(), 0)
      << "biases are drawn, too";
}

TEST(RecurrentScorer, RefusesSizesThatDoNotFit) {
  SharedModules network(1);
  RandomStream random(1, "scorer");
  const RouterSizes sizes{.hidden_size = kHidden, .num_experts = kExperts, .network = &network};
  EXPECT_EQ(error_of([&] { RecurrentScorer(sizes, {.size = 0}, random); }),
            "[recurrent] recurrent_size must be at least 1, got 0");
  RecurrentScorer(sizes, {.size = 8}, random);
  EXPECT_EQ(error_of([&] { RecurrentScorer(sizes, {.size = 16}, random); }),
            "[recurrent] recurrent_size = 16, but the cell that the layers of this network share has size 8");
  EXPECT_EQ(error_of([&] { RecurrentScorer(sizes, {.size = 8, .shared_projector = true}, random); }),
            "[recurrent] shared_projector must be the same in all layers of a network");
  EXPECT_EQ(error_of([] {
              make_piece(scorers(), "recurrent", {{"recurrent_size", int64_t{0}}});
            }),
            "[recurrent] recurrent_size must be in [1, 65536], got 0");
}

/// A network of three layers in float64 whose experts are fixed linear maps and whose top-2 choices are held
/// fixed: cross entropy of the last output plus 0.01 times the pooled loss, as a function of one GRU tensor.
class FixedChoice {
 public:
  FixedChoice() {
    RandomStream random(3, "fixed choice");
    for (Tensor& w : weights_) w = normals(w.sizes(), random).to(at::kDouble) * 0.7;
    for (int64_t l = 0; l < 3; ++l) {
      inputs_.push_back(normals({7, kHidden}, random).to(at::kDouble));
      projectors_.push_back(normals({kSize, kHidden}, random).to(at::kDouble) * 0.5);
      routing_.push_back(normals({kExperts, kSize}, random).to(at::kDouble));
      experts_.push_back(normals({7, kExperts, 4}, random).to(at::kDouble));
    }
    for (const Tensor& p : probabilities()) chosen_.push_back(std::get<1>(p.topk(2, -1)));
  }
  Tensor loss() const {
    const auto all = probabilities();
    std::vector<Tensor> counts;
    Tensor output = at::zeros({7, 4}, at::kDouble);
    for (size_t l = 0; l < 3; ++l) {
      const Tensor mask = at::zeros_like(all[l]).detach().scatter(-1, chosen_[l], 1.0);
      counts.push_back(mask.sum(0));
      const Tensor kept = all[l] * mask, weight = kept / kept.sum(-1, true);
      output = output + (weight.unsqueeze(-1) * experts_[l]).sum(1);
    }
    const Tensor cross_entropy = at::log_softmax(output, -1).select(-1, 1).mean().neg();
    return cross_entropy + 0.01 * pooled_switch_loss(counts, all);
  }
  std::vector<Tensor>& weights() { return weights_; }

 private:
  std::vector<Tensor> probabilities() const {
    const auto gate = [&](size_t g) {
      return GateWeights{weights_[4 * g], weights_[4 * g + 1], weights_[4 * g + 2], weights_[4 * g + 3]};
    };
    Tensor state = at::zeros({7, kSize}, at::kDouble);
    std::vector<Tensor> result;
    for (size_t l = 0; l < 3; ++l) {
      state = gru_cell(inputs_[l].mm(projectors_[l].t()), state, {gate(0), gate(1), gate(2)});
      result.push_back(at::softmax(state.mm(routing_[l].t()), -1));
    }
    return result;
  }

  std::vector<Tensor> weights_ = [] {
    std::vector<Tensor> all;
    for (int g = 0; g < 3; ++g) {
      for (int m = 0; m < 2; ++m) all.push_back(at::zeros({kSize, kSize}));
      for (int b = 0; b < 2; ++b) all.push_back(at::zeros({kSize}));
    }
    return all;
  }();
  std::vector<Tensor> inputs_, projectors_, routing_, experts_, chosen_;
};

TEST(RecurrentScorer, HasTheGradientOfTheLossForEveryWeightOfTheCell) {
  for (size_t i = 0; i < 12; ++i) {
    FixedChoice network;
    const Tensor at_point = network.weights()[i];
    const auto loss = [&](const Tensor& w) {
      network.weights()[i] = w;
      return network.loss();
    };
    const Tensor expected = slopes(at_point, loss), found = gradient(at_point, loss);
    const double error = ((found - expected).norm() / expected.norm()).item<double>();
    EXPECT_LT(error, 1e-6) << "tensor " << i;
  }
}

TEST(PooledSwitch, IsKWhenBalancedAndEWhenAllTokensMeet) {
  RandomStream random(4, "permutations");
  std::vector<Tensor> counts, probabilities;
  for (int layer = 0; layer < 2; ++layer) {
    Tensor logits = at::empty({4000, 8});
    std::vector<float> row = {0, 1, 2, 3, 4, 5, 6, 7};
    for (int64_t t = 0; t < 4000; ++t) {
      random.shuffle(std::span(row));
      logits[t].copy_(tensor(row, {8}) * 0.01f);
    }
    const Scores scores = scores_of(logits);
    counts.push_back(
        expert_counts(weigh({}, scores, choice::TopK(2).choose(rows_of(scores.probabilities), {}))));
    probabilities.push_back(scores.probabilities);
  }
  EXPECT_NEAR(pooled_switch_loss(counts, probabilities).item<double>(), 2, 0.01);
  const Tensor together = tensor({0.5, 0.5, 0, 0, 0, 0, 0, 0}, {1, 8}).expand({100, 8});
  EXPECT_NEAR(pooled_switch_loss({tensor({100, 100, 0, 0, 0, 0, 0, 0}, {8})}, {together}).item<double>(), 8,
              1e-5);
}

TEST(PooledSwitch, PoolsLayersOfOppositeLoads) {
  const Tensor left = tensor({1, 0}, {1, 2}), right = tensor({0, 1}, {1, 2});
  const Tensor to_left = tensor({1, 0}, {2}), to_right = tensor({0, 1}, {2});
  EXPECT_FLOAT_EQ(pooled_switch_loss({to_left}, {left}).item<float>(), 2);
  EXPECT_FLOAT_EQ(pooled_switch_loss({to_left, to_right}, {left, right}).item<float>(), 1)
      << "each layer is unbalanced, both together are not";
  EXPECT_EQ(error_of([&] { pooled_switch_loss({to_left}, {}); }),
            "[pooled_switch] counts of 1 layers and probabilities of 0; both are needed for each layer");
}

TEST(ResidualLogits, AddsAShareOfTheProbabilitiesBelow) {
  const Tensor first = tensor({std::log(3.0f), 0}, {1, 2});  // 0.75, 0.25
  const Tensor second = tensor({0, 0}, {1, 2});              // 0.5, 0.5
  const Tensor below = residual_log_probabilities(first, {}, 0.5);
  EXPECT_LT(difference(below.exp(), tensor({0.75f, 0.25f}, {1, 2})), 1e-6);
  const Tensor sum = residual_log_probabilities(second, below, 0.5);
  EXPECT_LT(difference(sum.exp(), tensor({0.875f, 0.625f}, {1, 2})), 1e-6) << "0.5 + 0.5 x 0.75";
  EXPECT_LT(difference(residual_log_probabilities(second, below, 0).exp(), tensor({0.5f, 0.5f}, {1, 2})),
            1e-6);
}

TEST(ResidualLogits, CarriesWhatItGaveToTheNextLayer) {
  RandomStream random(5, "hidden");
  const Tensor hidden = normals({4, kHidden}, random);
  const auto layer = [&](uint64_t seed) {
    return ResidualLogits(
        make_scorer("linear", {.hidden_size = kHidden, .num_experts = kExperts}, {{"init", 0.5}}, seed), 2);
  };
  ResidualLogits first = layer(1), second = layer(2);
  CarriedState carried;
  const Tensor below = first.logits(hidden, {.carried = &carried});
  const Tensor sum = second.logits(hidden, {.carried = &carried});
  const Tensor own = second.logits(hidden, {});
  EXPECT_LT(difference(sum.exp(), own.exp() + 2 * below.exp()), 1e-5);
  EXPECT_EQ(error_of([] { ResidualLogits(nullptr, -1); }),
            "[residual_logits] alpha must be at least 0, got -1");
}

TEST(SharedModules, RefusesAModuleOfAnotherKind) {
  struct Other final : SharedModule {
    void collect(ParameterList&, const std::string&) const override {}
  };
  SharedModules network(1);
  network.get<Other>("rnn_router", [](RandomStream&) { return std::make_shared<Other>(); });
  RandomStream random(1, "scorer");
  EXPECT_EQ(error_of([&] {
              RecurrentScorer({.hidden_size = 2, .num_experts = 2, .network = &network}, {}, random);
            }),
            "the routers of this network share a module rnn_router of another kind; give one of them another "
            "name");
}

}  // namespace
}  // namespace gatewright
