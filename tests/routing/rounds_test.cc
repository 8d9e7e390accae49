// Chain-of-Experts (2025, arXiv 2506.18945): rounds over one bank, as docs/methods/chain-of-experts.md
// describes them.
#include "gatewright/routing/rounds.h"

#include <gtest/gtest.h>

#include "gatewright/experts/registry.h"
#include "gatewright/layers/rms_norm.h"
#include "gatewright/routing/balance/switch.h"
#include "tests/routing/routing_testing.h"

namespace gatewright {
namespace {

constexpr int64_t kWidth = 6, kTokens = 10;

/// A layer: a router for each round over one bank of SwiGLU experts.
struct Layer {
  std::vector<std::unique_ptr<Router>> routers;
  std::unique_ptr<ExpertBank> bank;
  std::vector<RoutingRecord> records = {};
  std::vector<Tensor> made = {};  // m(t)

  Layer(int64_t rounds, int64_t top_k, int64_t num_experts, double init = 0.5) {
    RandomStream random(1, "layer");
    const RouterSpec spec = spec_of("linear", "top_k", {{"top_k", top_k}});
    for (int64_t t = 0; t < rounds; ++t)
      routers.push_back(std::make_unique<Router>(
          spec, RouterSizes{.hidden_size = kWidth, .num_experts = num_experts}, random));
    bank = make_expert_bank(make_piece(expert_banks(), "swiglu", {{"width", int64_t{8}}, {"init", init}}), {},
                            {.hidden_size = kWidth, .num_experts = num_experts}, random);
  }

  RoundFunction round() {
    return [this](int64_t t, const Tensor& x) {
      records.push_back(routers[static_cast<size_t>(t)]->route(x, {.round = t}));
      made.push_back(bank->forward(x, records.back().assignment));
      return made.back();
    };
  }

  Tensor run(const Tensor& stream, RoundResidual residual) {
    const RoundsSpec spec{.rounds = std::ssize(routers), .residual = residual};
    const RoundsOutput out = run_rounds(stream, normed(stream), spec, round());
    return out.stream + out.delta;
  }

  static Tensor normed(const Tensor& stream) { return rms_norm(stream, at::ones({kWidth}), 1e-5); }

  ParameterList parameters(size_t round) const {
    ParameterList list;
    routers[round]->collect(list, "gate");
    return list;
  }
};

Tensor some_stream(uint64_t seed = 2) {
  RandomStream random(seed, "stream");
  return normals({kTokens, kWidth}, random) * 2;
}

TEST(Rounds, OneRoundIsTheOrdinaryLayer) {
  const Tensor u = some_stream();
  for (const RoundResidual residual : {RoundResidual::kInnerStream, RoundResidual::kOuter}) {
    Layer chain(1, 2, 4), plain(1, 2, 4);
    const Tensor x = Layer::normed(u);
    const Tensor ordinary = u + plain.bank->forward(x, plain.routers[0]->route(x, {}).assignment);
    EXPECT_TRUE(at::equal(chain.run(u, residual), ordinary));
  }
}

TEST(Rounds, WithExpertsThatGiveNothingTheResidualIsLeft) {
  const Tensor u = some_stream();
  for (const int64_t rounds : {1, 2, 5}) {
    EXPECT_TRUE(at::equal(Layer(rounds, 2, 4, 0).run(u, RoundResidual::kInner), Layer::normed(u)));
    EXPECT_TRUE(at::equal(Layer(rounds, 2, 4, 0).run(u, RoundResidual::kInnerStream), u));
    EXPECT_TRUE(at::equal(Layer(rounds, 2, 4, 0).run(u, RoundResidual::kOuter), u));
  }
}

TEST(Rounds, OfOneExpertAreItsRepetition) {
  const Tensor u = some_stream();
  Layer layer(2, 1, 1);
  const auto expert = [&](const Tensor& x) {
    Layer one(1, 1, 1);
    return layer.bank->forward(x, one.routers[0]->route(x, {}).assignment);
  };
  const Tensor x0 = Layer::normed(u), first = expert(x0);
  EXPECT_LT(difference(layer.run(u, RoundResidual::kInner), x0 + first + expert(x0 + first)), 1e-6);
  EXPECT_LT(difference(layer.run(u, RoundResidual::kInnerStream), u + first + expert(x0 + first)), 1e-6);
  EXPECT_LT(difference(layer.run(u, RoundResidual::kOuter), u + expert(first)), 1e-6);
}

TEST(Rounds, InWholeNumbers) {
  // m(t) = 10^t x(t-1) on a stream of 7 whose norm is 1.
  const Tensor u = at::full({1, 2}, 7.0), x = at::ones({1, 2});
  const RoundFunction times = [](int64_t t, const Tensor& y) { return y * (t == 0 ? 1 : 10); };
  const auto value = [&](RoundResidual residual) {
    const RoundsOutput out = run_rounds(u, x, {.rounds = 2, .residual = residual}, times);
    return (out.stream + out.delta)[0][0].item<double>();
  };
  EXPECT_EQ(value(RoundResidual::kInner), 22) << "1 + 1 = 2, then 2 + 20";
  EXPECT_EQ(value(RoundResidual::kInnerStream), 28) << "7 + 1 + 20";
  EXPECT_EQ(value(RoundResidual::kOuter), 17) << "7 + 10";
}

TEST(Rounds, RoutersAreDifferentAndAllLearn) {
  Layer layer(3, 2, 4);
  layer.run(some_stream(), RoundResidual::kInner).square().sum().backward();
  for (size_t t = 0; t < 3; ++t) {
    const Tensor weight = layer.parameters(t)[0].tensor;
    EXPECT_GT(weight.grad().abs().max().item<double>(), 0) << t;
    EXPECT_FALSE(at::equal(weight, layer.parameters((t + 1) % 3)[0].tensor));
  }
}

TEST(Rounds, TheFirstRouterLearnsThroughTheSecondRound) {
  Layer layer(2, 2, 4);
  layer.run(some_stream(), RoundResidual::kInner);
  const Tensor weight = layer.parameters(0)[0].tensor;
  const Tensor slope = torch::autograd::grad({layer.made[1].square().sum()}, {weight})[0];
  EXPECT_GT(slope.abs().max().item<double>(), 0);
}

TEST(Rounds, WeightsSumToLessThanOneUnlessAllAreChosen) {
  Layer some(2, 2, 4), all(2, 4, 4);
  some.run(some_stream(), RoundResidual::kInner);
  all.run(some_stream(), RoundResidual::kInner);
  const auto sums = [](const RoutingRecord& r) {
    return at::zeros({kTokens}).index_add(0, r.assignment.token, r.assignment.weight.detach());
  };
  for (size_t t = 0; t < 2; ++t) {
    EXPECT_EQ(some.records[t].round, static_cast<int64_t>(t));
    EXPECT_LT(sums(some.records[t]).max().item<double>(), 1);
    EXPECT_NEAR(sums(all.records[t]).min().item<double>(), 1, 1e-6);
  }
}

TEST(Rounds, OfASharedGateHaveTheSameScores) {
  RouterSpec spec = spec_of("linear", "top_k", {{"top_k", int64_t{2}}});
  spec.activation = choice::Activation::kReluRms;
  spec.balance = {make_piece(balance_terms(), "loss_free_bias", {{"rate", 0.5}})};
  const RouterSizes sizes{.hidden_size = kWidth, .num_experts = 4};
  RandomStream random(1, "gates");
  Router first(spec, sizes, random), second(spec, sizes, first);
  const Tensor x = some_stream();
  EXPECT_TRUE(at::equal(first.route(x, {.training = true}).scores.probabilities,
                        second.route(x, {}).scores.probabilities));
  first.end_step();
  EXPECT_TRUE(first.route(x, {}).scores.selection_bias.abs().max().item<double>() > 0);
  EXPECT_EQ(second.route(x, {}).scores.selection_bias.abs().max().item<double>(), 0) << "counted by itself";
  ParameterList of_first, of_second;
  first.collect(of_first, "mlp.gate");
  second.collect(of_second, "mlp.gate.1");
  ASSERT_EQ(of_first.size(), 3u);
  EXPECT_EQ(of_first[1].name, "mlp.router_norm.weight");
  ASSERT_EQ(of_second.size(), 1u) << "the gate is collected once";
  EXPECT_EQ(of_second[0].name, "mlp.gate.1.e_score_correction_bias");
}

// --- the balance loss of each sequence: f = count N / (S K), mean over sequences of sum_e f_e P_e ---

/// `chosen`: the experts of each token; probabilities are shared among `support` of each sequence.
double sequence_balance(const std::vector<std::vector<int32_t>>& chosen,
                        const std::vector<std::vector<int32_t>>& support, int64_t num_experts) {
  const auto term = make_term("switch", {{"scope", "sequence"}, {"fraction", "choices"}}, num_experts);
  const auto sequences = std::ssize(support), length = std::ssize(chosen) / sequences;
  Tensor logits = at::full({std::ssize(chosen), num_experts}, -60.0f);
  for (int64_t t = 0; t < std::ssize(chosen); ++t) {
    for (const int32_t e : support[static_cast<size_t>(t / length)]) logits[t][e] = 0.0f;
  }
  const Scores scores = scores_of(logits);
  const Assignment assignment = assign(scores, chosen);
  const double loss = term->loss(scores, assignment, {.num_sequences = sequences}).item<double>();
  // The same from plain tables: counts and mean probabilities of each sequence.
  Tensor counts = at::zeros({sequences, num_experts});
  for (int64_t t = 0; t < std::ssize(chosen); ++t) {
    for (const int32_t e : chosen[static_cast<size_t>(t)]) counts[t / length][e] += 1;
  }
  const Tensor mean = scores.probabilities.view({sequences, length, num_experts}).mean(1);
  EXPECT_NEAR(micro_batch_loss(counts, mean).item<double>(), loss, 1e-5);
  return loss;
}

TEST(SequenceBalance, IsOneWhenEverySequenceIsBalanced) {
  EXPECT_NEAR(sequence_balance({{0, 1}, {2, 3}, {0, 2}, {1, 3}}, {{0, 1, 2, 3}, {0, 1, 2, 3}}, 4), 1, 1e-5);
}

TEST(SequenceBalance, OfTheSameExpertsForAllIsNOverK) {
  EXPECT_NEAR(sequence_balance({{1, 4}, {1, 4}, {1, 4}, {1, 4}}, {{1, 4}, {1, 4}}, 8), 4, 1e-5);
}

TEST(SequenceBalance, OfHalvesIsTwoThoughTheBatchIsBalanced) {
  const std::vector<std::vector<int32_t>> chosen = {{0, 1}, {0, 1}, {2, 3}, {2, 3}};
  EXPECT_NEAR(sequence_balance(chosen, {{0, 1}, {2, 3}}, 4), 2, 1e-5);
}

// --- how many choices there are ---

TEST(Combinations, AreCountedWithoutOrder) {
  EXPECT_EQ(binomial(64, 4), 635376);
  EXPECT_NEAR(binomial(64, 4) * binomial(64, 4), 4.037e11, 5e7);
  EXPECT_NEAR(binomial(64, 8), 4.426e9, 5e5);
  EXPECT_EQ(binomial(3, 5), 0);
  EXPECT_EQ(binomial(5, 0), 1);
  EXPECT_NEAR(combination_gain(2, 4, 64), 91.2, 0.05);
  EXPECT_EQ(combination_gain(1, 4, 64), 1);
  EXPECT_EQ(error_of([] { combination_gain(3, 2, 5); }),
            "[rounds] 3 rounds of 2 experts need at least 6 experts to compare with one round, got 5");
}

TEST(Rounds, RefuseWhatMakesNoSense) {
  const Tensor x = at::ones({2, 3});
  const RoundFunction same = [](int64_t, const Tensor& y) { return y; };
  EXPECT_EQ(error_of([&] { run_rounds(x, x, {.rounds = 0}, same); }),
            "[rounds] a layer needs at least one round, got 0");
  EXPECT_EQ(error_of([&] {
              run_rounds(x, at::ones({2, 4}), {}, same);
            }),
            "[rounds] the norm has 8 values, the residual stream 6");
  EXPECT_EQ(error_of([] { parse_round_residual("iner"); }),
            "there is no residual 'iner', did you mean 'inner'?");
}

TEST(LinearScorer, CanBeginWithKaimingsUniformWeights) {
  const auto scorer = make_scorer("linear", {.hidden_size = 16, .num_experts = 500},
                                  {{"init_rule", "kaiming_uniform"}, {"bias", true}});
  ParameterList list;
  scorer->collect(list, "gate");
  for (const NamedTensor& p : list) {
    EXPECT_TRUE(p.tensor.requires_grad()) << p.name;
    EXPECT_LE(p.tensor.abs().max().item<double>(), 0.25) << "1 / sqrt(16)";
    EXPECT_GT(p.tensor.abs().max().item<double>(), 0.24);
    EXPECT_NEAR(p.tensor.square().mean().item<double>(), 0.25 * 0.25 / 3, 2e-3);
  }
}

}  // namespace
}  // namespace gatewright
