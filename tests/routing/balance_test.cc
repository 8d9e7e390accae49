// Balance terms: examples by hand, gradients of every registered term, schedules, and the bias without a
// loss.
#include "gatewright/routing/balance.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gatewright/routing/balance/expert_budget.h"
#include "gatewright/routing/balance/switch.h"
#include "gatewright/routing/balance/terms.h"
#include "routing_testing.h"

namespace gatewright {
namespace {

double value(BalanceTerm& term, const Scores& scores, const Assignment& assignment,
             const RoutingContext& context = {.training = true}) {
  return term.loss(scores, assignment, context).item<double>();
}

/// Every token visits expert t mod E, and all probabilities are 1 / E.
std::pair<Scores, Assignment> uniform(int64_t num_tokens, int64_t num_experts) {
  const Scores scores = scores_of(at::zeros({num_tokens, num_experts}));
  std::vector<std::vector<int32_t>> chosen;
  for (int64_t t = 0; t < num_tokens; ++t) chosen.push_back({static_cast<int32_t>(t % num_experts)});
  return {scores, assign(scores, chosen)};
}

/// Four tokens, two experts; logits are logarithms of the probabilities.
Scores scores_by_probability(const std::vector<float>& p, int64_t num_experts) {
  return scores_of(at::log(tensor(p, {static_cast<int64_t>(p.size()) / num_experts, num_experts})));
}

TEST(EveryBalanceTerm, IsRegisteredUnderTheNameThatRecipesUse) {
  for (const char* name : {"switch", "global_batch", "z_loss", "importance", "entropy", "activation_locality",
                           "chunk_sparsity", "loss_free_bias", "expert_budget"})
    EXPECT_NE(balance_terms().find(name), nullptr) << name;
}

/// Parameters with which a term takes sequences of any length, and is smooth enough for finite differences.
Given gentle(const std::string& name) {
  if (name == "chunk_sparsity") return {{"chunk", int64_t{1}}};
  if (name == "activation_locality") return {{"steepness", 2.0}};
  return {};
}

TEST(EveryBalanceTerm, IsFiniteForAwkwardBatches) {
  for (const std::string& name : general_terms()) {
    const Scores masked =
        scores_of(tensor({choice::kMask, 1, choice::kMask, choice::kMask, 0, choice::kMask}, {2, 3}));
    for (const auto& [scores, chosen] :
         {std::pair(scores_of(at::zeros({0, 3})), std::vector<std::vector<int32_t>>{}),
          std::pair(scores_of(at::zeros({2, 3})), std::vector<std::vector<int32_t>>{{}, {}}),
          std::pair(masked, std::vector<std::vector<int32_t>>{{1}, {1}}),
          std::pair(scores_of(at::zeros({2, 1})), std::vector<std::vector<int32_t>>{{0}, {0}})}) {
      const auto term = make_term(name, gentle(name), scores.num_experts());
      const Tensor loss = term->loss(scores, assign(scores, chosen), {.training = true});
      if (loss.defined()) {
        EXPECT_TRUE(std::isfinite(loss.item<double>())) << name;
      }
      term->end_step();
    }
  }
}

TEST(EveryBalanceTerm, HasTheGradientOfItsLoss) {
  RandomStream random(1, "logits");
  const Tensor logits = normals({12, 4}, random).to(at::kDouble);
  std::vector<std::vector<int32_t>> chosen;
  for (int t = 0; t < 12; ++t)
    chosen.push_back({static_cast<int32_t>(random.below(2)), static_cast<int32_t>(2 + random.below(2))});
  int with_loss = 0;
  for (const std::string& name : general_terms()) {
    std::vector<Given> settings = {gentle(name)};
    if (name == "switch")
      settings = {{}, {{"scope", std::string("sequence")}}, {{"scope", std::string("global_batch")}}};
    for (const Given& given : settings) {
      for (choice::Activation activation :
           {choice::Activation::kSoftmax, choice::Activation::kSigmoid, choice::Activation::kIdentity}) {
        const auto f = [&](const Tensor& x) {
          const auto term = make_term(name, given);
          const Scores scores = scores_of(x, activation);
          return term->loss(scores, assign(scores, chosen), {.training = true, .num_sequences = 3});
        };
        if (!f(logits).defined()) continue;
        ++with_loss;
        EXPECT_LT(difference(gradient(logits, f), slopes(logits, f)), 1e-6) << name;
        EXPECT_LT(difference(gradient(logits.to(at::kFloat), f), slopes(logits, f)), 1e-4) << name;
      }
    }
  }
  EXPECT_GE(with_loss, 18);
}

TEST(EveryBalanceTerm, IsTheSameWhenTokensAreReordered) {
  RandomStream random(2, "logits");
  const Tensor logits = normals({30, 4}, random);
  std::vector<std::vector<int32_t>> chosen;
  for (int t = 0; t < 30; ++t) chosen.push_back({static_cast<int32_t>(random.below(4))});
  const std::vector<int64_t> order = choice::random_order(30, random);
  std::vector<std::vector<int32_t>> reordered;
  for (int64_t t : order) reordered.push_back(chosen[static_cast<size_t>(t)]);
  const Scores scores = scores_of(logits),
               moved = scores_of(logits.index_select(0, at::tensor(order, at::kLong)));
  for (const std::string& name : general_terms()) {
    if (name == "activation_locality") continue;  // is about neighbours
    const Tensor a = make_term(name, gentle(name))->loss(scores, assign(scores, chosen), {.training = true});
    if (!a.defined()) continue;
    EXPECT_NEAR(a.item<double>(), value(*make_term(name, gentle(name)), moved, assign(moved, reordered)),
                1e-5)
        << name;
  }
}

TEST(SwitchLoss, IsOneAtUniformRoutingAndEAtCollapse) {
  const auto [scores, assignment] = uniform(8, 4);
  EXPECT_NEAR(value(*make_term("switch"), scores, assignment), 1, 1e-6);
  const Scores collapsed = scores_of(tensor({50, 0, 0, 0, 50, 0, 0, 0}, {2, 4}));
  EXPECT_NEAR(value(*make_term("switch"), collapsed, assign(collapsed, {{0}, {0}})), 4, 1e-6);
}

TEST(SwitchLoss, WithKExpertsATokenIsKAtBalance) {
  const Scores scores = scores_of(at::zeros({2, 4}));
  EXPECT_NEAR(value(*make_term("switch"), scores, assign(scores, {{0, 1}, {2, 3}})), 2, 1e-6);
}

TEST(SwitchLoss, IsComputedByHand) {
  const Scores scores = scores_by_probability({0.5f, 0.5f, 0.75f, 0.25f, 0.25f, 0.75f, 1.0f, 1e-9f}, 2);
  // f = (3/4, 1/4); P = (2.5/4, 1.5/4); 2 (f . P) = 2 (7.5 + 1.5) / 16.
  EXPECT_NEAR(value(*make_term("switch"), scores, assign(scores, {{0}, {0}, {1}, {0}})), 1.125, 1e-6);
}

TEST(SwitchLoss, OverSequencesIsTheMeanOfTheirOwnLosses) {
  // One sequence goes to expert 0, the other to expert 1: balanced together, each collapsed by itself.
  const Scores scores = scores_of(tensor({50, 0, 50, 0, 0, 50, 0, 50}, {4, 2}));
  const Assignment assignment = assign(scores, {{0}, {0}, {1}, {1}});
  const RoutingContext two{.training = true, .num_sequences = 2};
  EXPECT_NEAR(value(*make_term("switch", {{"scope", std::string("micro_batch")}}), scores, assignment, two),
              1, 1e-6);
  EXPECT_NEAR(value(*make_term("switch", {{"scope", std::string("sequence")}}), scores, assignment, two), 2,
              1e-6);
  EXPECT_EQ(error_of([&] {
              value(*make_term("switch", {{"scope", std::string("sequence")}}), scores, assignment,
                    {.layer = 6, .training = true, .num_sequences = 3});
            }),
            "layer 6: 4 tokens are not 3 sequences of equal length");
}

TEST(SwitchLoss, OverTheGlobalBatchCountsAllMicroBatchesOfTheStep) {
  const Scores first = scores_of(tensor({50, 0, 50, 0}, {2, 2})),
               second = scores_of(tensor({0, 50, 0, 50}, {2, 2}));
  const Assignment to_0 = assign(first, {{0}, {0}}), to_1 = assign(second, {{1}, {1}});
  const auto term = make_term("switch", {{"scope", std::string("global_batch")}});
  EXPECT_NEAR(value(*term, first, to_0), 2, 1e-6) << "f = (1, 0)";
  EXPECT_NEAR(value(*term, second, to_1), 1, 1e-6) << "f = (1/2, 1/2)";
  EXPECT_NEAR(value(*term, second, to_1, {.training = false}), 2, 1e-6) << "evaluation counts for itself";
  term->end_step();
  EXPECT_NEAR(value(*term, second, to_1), 2, 1e-6) << "f = (0, 1) in the new step";
}

TEST(SwitchLoss, OfSigmoidsComparesTheirSharesOfTheSum) {
  // Sigmoids 1/2 and 1/4 are shares 2/3 and 1/3, whatever the size of both.
  const Scores scores = scores_of(tensor({0, -std::log(3.0f)}, {1, 2}), choice::Activation::kSigmoid);
  EXPECT_NEAR(value(*make_term("switch"), scores, assign(scores, {{0}})), 2 * 2.0 / 3, 1e-6);
  EXPECT_NEAR(value(*make_term("switch"), scores, assign(scores, {{0, 1}})), 2, 1e-6);
}

TEST(Distribution, SumsToOneForEveryActivation) {
  RandomStream random(3, "logits");
  Tensor logits = normals({20, 5}, random);
  logits[4][2] = choice::kMask;
  for (choice::Activation activation :
       {choice::Activation::kSoftmax, choice::Activation::kSigmoid, choice::Activation::kIdentity}) {
    const Tensor p = distribution(scores_of(logits, activation));
    EXPECT_LT(difference(p.sum(-1), at::ones({20})), 1e-6);
    EXPECT_GE(p.min().item<float>(), 0);
    EXPECT_EQ(p[4][2].item<float>(), 0);
  }
}

TEST(ZLoss, IsTheMeanSquareOfTheLogarithmOfTheSum) {
  // logsumexp(ln 1, ln 3) = ln 4; logsumexp(0, 0) = ln 2.
  const Scores scores = scores_of(tensor({0, std::log(3.0f), 0, 0}, {2, 2}));
  const double ln2 = std::log(2.0);
  EXPECT_NEAR(value(*make_term("z_loss"), scores, assign(scores, {{0}, {0}})), (4 + 1) * ln2 * ln2 / 2, 1e-6);
}

TEST(ZLoss, LeavesOutTokensWithoutAnyExpert) {
  const Tensor logits = leaf(tensor({choice::kMask, choice::kMask, 0, 0}, {2, 2}));
  const Tensor loss = z_loss(logits);
  EXPECT_NEAR(loss.item<double>(), std::log(2.0) * std::log(2.0) / 2, 1e-6);
  loss.backward();
  EXPECT_TRUE(at::isfinite(logits.grad()).all().item<bool>());
}

TEST(Importance, IsTheSquaredCoefficientOfVariation) {
  EXPECT_NEAR(squared_coefficient_of_variation(tensor({3, 1}, {2})).item<double>(), 0.25, 1e-6)
      << "mean 2, variance 1";
  EXPECT_NEAR(squared_coefficient_of_variation(tensor({4, 0, 0, 0}, {4})).item<double>(), 3, 1e-6);
  EXPECT_NEAR(squared_coefficient_of_variation(at::full({5}, 0.3)).item<double>(), 0, 1e-6);
  const Scores scores = scores_by_probability({0.75f, 0.25f, 0.75f, 0.25f}, 2);
  EXPECT_NEAR(value(*make_term("importance"), scores, assign(scores, {{0}, {0, 1}})), 0.5102041, 1e-6)
      << "importance (1.5, 0.25): mean 7/8, variance 25/64; 25/49";
}

TEST(Entropy, IsTheMeanOverTokensInNats) {
  const Scores scores = scores_by_probability({0.5f, 0.5f, 1.0f, 1e-30f}, 2);
  EXPECT_NEAR(value(*make_term("entropy"), scores, assign(scores, {{0}, {0}})), std::log(2.0) / 2, 1e-6);
}

TEST(Schedule, OfAWeightIsLinearThenConstant) {
  const WeightedTerm term{
      .name = "switch", .term = nullptr, .weight = 0.1, .final_weight = 0.02, .over_steps = 100};
  EXPECT_DOUBLE_EQ(term.weight_at(0), 0.1);
  EXPECT_DOUBLE_EQ(term.weight_at(50), 0.06);
  EXPECT_DOUBLE_EQ(term.weight_at(100), 0.02);
  EXPECT_DOUBLE_EQ(term.weight_at(100000), 0.02);
  const WeightedTerm constant{.name = "switch", .term = nullptr, .weight = 0.1, .final_weight = 0.02};
  EXPECT_DOUBLE_EQ(constant.weight_at(7), 0.1);
}

TEST(Schedule, IsReadFromTheValuesOfATerm) {
  const Given given = {{"weight", 0.5}, {"final_weight", 0.25}, {"over_steps", int64_t{10}}};
  const WeightedTerm term = make_balance_term("entropy", make_piece(balance_terms(), "entropy", given).values,
                                              {.hidden_size = 8, .num_experts = 4});
  EXPECT_DOUBLE_EQ(term.weight_at(5), 0.375);
  EXPECT_EQ(term.name, "entropy");
  EXPECT_EQ(error_of([] {
              make_piece(balance_terms(), "switch", {{"scope", std::string("batch")}});
            }).substr(0, 78),
            "[switch] scope must be one of micro_batch, sequence, global_batch, shuffled, m");
  EXPECT_EQ(error_of([] { balance_terms().at("swich"); }),
            "there is no balance term 'swich', did you mean 'switch'?");
}

Tensor bias_of(const BalanceTerm& term) {
  ParameterList list;
  term.collect(list, "gate");
  EXPECT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].name, "gate.e_score_correction_bias") << "Hugging Face's name";
  EXPECT_FALSE(list[0].trainable);
  return list[0].tensor;
}

TEST(LossFreeBias, MovesByItsRateAgainstTheLoadAfterEachStep) {
  const auto term = make_term("loss_free_bias", {{"rate", 0.25}});
  const Scores scores = scores_of(at::zeros({4, 4}));
  // Loads 3, 1, 0, 0 around a mean of 1.
  EXPECT_FALSE(term->loss(scores, assign(scores, {{0}, {0}, {0}, {1}}), {.training = true}).defined());
  EXPECT_EQ(to_floats(bias_of(*term)), (std::vector<float>{0, 0, 0, 0})) << "nothing moves within a step";
  term->end_step();
  EXPECT_EQ(to_floats(bias_of(*term)), (std::vector<float>{-0.25f, 0, 0.25f, 0.25f}));
  term->end_step();
  EXPECT_EQ(to_floats(bias_of(*term)), (std::vector<float>{-0.25f, 0, 0.25f, 0.25f}))
      << "no loads, no change";
}

TEST(LossFreeBias, CountsAllMicroBatchesOfAStepButNotEvaluation) {
  const auto term = make_term("loss_free_bias", {{"rate", 1.0}}, 2);
  const Scores scores = scores_of(at::zeros({2, 2}));
  term->loss(scores, assign(scores, {{0}, {0}}), {.training = true});
  term->loss(scores, assign(scores, {{1}, {1}}), {.training = true});
  term->loss(scores, assign(scores, {{1}, {1}}), {.training = false});
  term->end_step();
  EXPECT_EQ(to_floats(bias_of(*term)), (std::vector<float>{0, 0})) << "two and two";
}

TEST(LossFreeBias, IsAddedForTheChoiceAndLeftOutOfTheWeights) {
  const auto term = make_term("loss_free_bias", {{"rate", 0.5}}, 2);
  Scores scores = scores_by_probability({0.6f, 0.4f, 0.6f, 0.4f}, 2);
  term->loss(scores, assign(scores, {{0}, {0}}), {.training = true});
  term->end_step();
  term->before_choice(scores);
  const std::vector<float> seen = to_floats(selection_scores(scores, choice::Reads::kProbabilities));
  EXPECT_NEAR(seen[0], 0.1, 1e-6);
  EXPECT_NEAR(seen[1], 0.9, 1e-6);
  EXPECT_NEAR(assign(scores, {{1}, {}}).weight.item<double>(), 0.4, 1e-6);
}

TEST(ExpertBudget, MultipliesWhatIsComparedByAFactorThatFollowsTheMeanOfTheLayers) {
  const auto term = make_term("expert_budget", {{"experts_per_token", 2.0}, {"rate", 0.5}});
  const auto factor = [&] {
    ParameterList list;
    term->collect(list, "gate");
    EXPECT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].name, "gate.selection_factor");
    EXPECT_FALSE(list[0].trainable);
    return list[0].tensor.item<double>();
  };
  Scores scores = scores_by_probability({0.4f, 0.3f, 0.2f, 0.1f, 0.25f, 0.25f, 0.25f, 0.25f}, 4);
  EXPECT_EQ(term->observation(), std::nullopt) << "nothing seen";
  EXPECT_FALSE(term->loss(scores, assign(scores, {{0}, {1}}), {.training = true}).defined());
  term->loss(scores, assign(scores, {{0, 1, 2}, {0, 1, 2}}), {.training = true});
  term->loss(scores, assign(scores, {{0, 1, 2, 3}, {0, 1, 2, 3}}), {.training = false});
  EXPECT_EQ(term->observation(), std::optional(2.0)) << "1 and 3 in the two micro-batches, evaluation aside";
  term->observe(0.5);  // the mean with other layers
  term->end_step();
  EXPECT_EQ(term->observation(), std::nullopt) << "the next step";
  EXPECT_NEAR(factor(), 0.5, 1e-6) << "(0.5 / 2)^0.5";
  term->before_choice(scores);
  const std::vector<float> seen = to_floats(selection_scores(scores, choice::Reads::kProbabilities));
  EXPECT_NEAR(seen[0], 0.2, 1e-6);
  EXPECT_NEAR(seen[4], 0.125, 1e-6);
  EXPECT_NEAR(assign(scores, {{0}, {}}).weight.item<double>(), 0.4, 1e-6) << "weights stay";
}

TEST(ExpertBudget, MovesByItsRateAndNotTooFar) {
  EXPECT_DOUBLE_EQ(next_budget_factor(1, 2, 4, 0.5), std::sqrt(2));
  EXPECT_DOUBLE_EQ(next_budget_factor(3, 2, 2, 1), 3);
  EXPECT_DOUBLE_EQ(next_budget_factor(1, 2, 0, 1), 0.1) << "none was visited";
  EXPECT_DOUBLE_EQ(next_budget_factor(1, 2, 64, 1), 10);
  double factor = 1;
  for (int i = 0; i < 1000; ++i) factor = next_budget_factor(factor, 1, 8, 1);
  EXPECT_TRUE(std::isfinite(factor)) << "of a budget out of reach";
}

/// The bound is what moves: random routers that grow surer and surer visit as many experts.
TEST(ExpertBudget, HoldsTheNumberWhileRoutersGrowSurer) {
  RouterSpec spec = spec_of("linear", "top_p");
  spec.balance = {make_piece(balance_terms(), "expert_budget", {{"experts_per_token", 2.5}})};
  RandomStream random(7, "budget");
  Router router(spec, {.hidden_size = 16, .num_experts = 8}, random);
  const Tensor x = normals({512, 16}, random);
  double visited = 0;
  for (int step = 0; step < 200; ++step) {
    const double sureness = 0.2 + 0.01 * step;
    const RoutingRecord record = router.route(x * sureness, {.training = true});
    EXPECT_FALSE(record.loss.defined());
    router.observe(router.observations());
    router.end_step();
    visited = static_cast<double>(record.assignment.num_pairs()) / 512;
  }
  EXPECT_NEAR(visited, 2.5, 0.1);
  const double in_use = static_cast<double>(router.route(x * 2.2, {}).assignment.num_pairs()) / 512;
  EXPECT_NEAR(in_use, 2.5, 0.15);
}

}  // namespace
}  // namespace gatewright
