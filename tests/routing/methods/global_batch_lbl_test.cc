// The load-balancing loss over the global batch (Qiu et al. 2025, "Demons in the Detail"), as
// docs/methods/global-batch-lbl.md describes it.
#include <gtest/gtest.h>

#include <cmath>

#include "gatewright/routing/balance/switch.h"
#include "gatewright/routing/balance/terms.h"
#include "gatewright/routing/process_group.h"
#include "tests/routing/routing_testing.h"

namespace gatewright {
namespace {

/// Groups of tokens with float64 logits, and the top-k choices of each.
struct Groups {
  std::vector<Tensor> logits;
  Tensor counts;  // [G, N]
  Tensor tokens;  // [G]

  Groups(const std::vector<int64_t>& sizes, int64_t num_experts, int64_t k, uint64_t seed) {
    RandomStream random(seed, "groups");
    std::vector<Tensor> counted;
    for (int64_t size : sizes) {
      logits.push_back(normals({size, num_experts}, random).to(at::kDouble).set_requires_grad(true));
      const Tensor best = std::get<1>(logits.back().detach().topk(k, -1)).view({-1});
      counted.push_back(at::bincount(best, {}, num_experts).to(at::kDouble));
    }
    counts = at::stack(counted);
    tokens = at::tensor(sizes, at::kLong).to(at::kDouble);
  }

  Tensor mean_probabilities() const {
    std::vector<Tensor> means;
    for (const Tensor& l : logits) means.push_back(at::softmax(l, -1).mean(0));
    return at::stack(means);
  }
  /// The loss of the concatenated batch.
  Tensor pooled() const {
    return switch_loss(share_of_choices(counts.sum(0)), at::softmax(at::cat(logits), -1).mean(0));
  }
  std::vector<Tensor> gradients(const Tensor& loss) const {
    for (const Tensor& l : logits) l.mutable_grad() = Tensor();
    loss.backward();
    std::vector<Tensor> result;
    for (const Tensor& l : logits) result.push_back(l.grad().clone());
    return result;
  }
};

void expect_same(const Groups& groups, const Tensor& loss) {
  EXPECT_NEAR(loss.item<double>(), groups.pooled().item<double>(), 1e-12);
  const std::vector<Tensor> ours = groups.gradients(loss), pooled = groups.gradients(groups.pooled());
  for (size_t g = 0; g < ours.size(); ++g) EXPECT_LT(difference(ours[g], pooled[g]), 1e-12);
}

TEST(GlobalBatchLoss, IsValueAndGradientOfThePooledBatch) {
  const std::vector<std::vector<int64_t>> group_sizes = {{12}, {7, 7}, {9, 9, 9, 9, 9}};
  for (const std::vector<int64_t>& sizes : group_sizes) {
    const Groups groups(sizes, 6, 2, sizes.size());
    expect_same(groups, global_batch_loss(groups.counts, groups.mean_probabilities(), groups.tokens));
  }
}

TEST(GlobalBatchLoss, OfUnequalGroupsNeedsTheirSizes) {
  const Groups groups({3, 20, 8}, 6, 2, 4);
  expect_same(groups, global_batch_loss(groups.counts, groups.mean_probabilities(), groups.tokens));
  const Tensor unweighted =
      global_batch_loss(groups.counts, groups.mean_probabilities(), at::ones({3}, at::kDouble));
  EXPECT_GT(std::abs(unweighted.item<double>() - groups.pooled().item<double>()), 1e-4);
}

TEST(GlobalBatchLoss, OfOneGroupIsTheMicroBatchLossAndTheShuffledOneOfAllTokens) {
  const Groups groups({15}, 5, 2, 5);
  const Tensor mean = groups.mean_probabilities();
  const double global = global_batch_loss(groups.counts, mean, groups.tokens).item<double>();
  EXPECT_NEAR(micro_batch_loss(groups.counts, mean).item<double>(), global, 1e-12);
  const Tensor chosen =
      at::zeros({15, 5}).scatter(1, std::get<1>(groups.logits[0].detach().topk(2, -1)), 1.0);
  RandomStream random(5, "draw");
  const Tensor drawn = sampled_counts(chosen, 15, random).to(at::kDouble);
  EXPECT_NEAR(switch_loss(share_of_choices(drawn), mean[0]).item<double>(), global, 1e-12);
}

TEST(GlobalBatchLoss, LetsDomainsHaveTheirOwnExperts) {
  // Two domains of two tokens, each wholly on its own expert.
  const Tensor counts = at::tensor({2.0, 0.0, 0.0, 2.0}, at::kDouble).view({2, 2});
  const Tensor mean = at::tensor({0.9, 0.1, 0.1, 0.9}, at::kDouble).view({2, 2});
  EXPECT_NEAR(micro_batch_loss(counts, mean).item<double>(), 1.8, 1e-12);
  EXPECT_NEAR(global_batch_loss(counts, mean, at::full({2}, 2.0, at::kDouble)).item<double>(), 1.0, 1e-12);
}

TEST(GlobalBatchLoss, IsOneWhereEitherSideIsUniform) {
  RandomStream random(6, "shares");
  const Tensor uneven = at::softmax(normals({8}, random).to(at::kDouble), -1);
  const Tensor uniform = at::full({8}, 1.0 / 8, at::kDouble);
  EXPECT_NEAR(switch_loss(uneven, uniform).item<double>(), 1, 1e-12);
  EXPECT_NEAR(switch_loss(uniform, uneven).item<double>(), 1, 1e-12);
  const Tensor opposite = at::tensor({0.9, 0.1}, at::kDouble), other = at::tensor({0.1, 0.9}, at::kDouble);
  EXPECT_LT(switch_loss(opposite, other).item<double>(), 1) << "no lower bound in general";
}

TEST(GlobalBatchLoss, GivesCountsNoGradient) {
  const Groups groups({10}, 4, 1, 7);
  const Tensor counts = leaf(groups.counts);
  const Tensor loss = global_batch_loss(counts, groups.mean_probabilities(), groups.tokens);
  loss.backward();
  EXPECT_FALSE(counts.grad().defined() && counts.grad().abs().max().item<double>() > 0);
  const Tensor p = at::softmax(groups.logits[0].detach(), -1);
  const Tensor f = share_of_choices(groups.counts[0]) * 4;
  const Tensor expected = p * (f - (p * f).sum(-1, true)) / 10;
  EXPECT_LT(difference(groups.logits[0].grad(), expected), 1e-12);
}

TEST(SampledCounts, DrawTokensWithoutReplacement) {
  RandomStream random(8, "draw");
  const Tensor chosen = at::eye(6);
  for (int i = 0; i < 20; ++i) {
    const Tensor drawn = sampled_counts(chosen, 4, random);
    EXPECT_EQ(drawn.sum().item<double>(), 4);
    EXPECT_LE(drawn.max().item<double>(), 1);
  }
  EXPECT_EQ(error_of([&] { sampled_counts(chosen, 7, random); }), "[switch] 7 tokens can't be drawn from 6");
}

/// A batch in which token t of `experts` visits the expert that stands there.
std::pair<Scores, Assignment> batch_of(const std::vector<int32_t>& experts, uint64_t seed) {
  RandomStream random(seed, "logits");
  std::vector<std::vector<int32_t>> chosen;
  for (int32_t e : experts) chosen.push_back({e});
  const Scores scores = scores_of(normals({static_cast<int64_t>(experts.size()), 3}, random));
  return {scores, assign(scores, chosen)};
}

double loss_of(BalanceTerm& term, const std::pair<Scores, Assignment>& batch, const RoutingContext& context) {
  return term.loss(batch.first, batch.second, context).item<double>();
}

TEST(GlobalBatchTerm, HasTheDefaultsOfThePaper) {
  const Values v = make_piece(balance_terms(), "global_batch").values;
  EXPECT_EQ(v.number("weight"), 0.01);
  EXPECT_EQ(v.text("scope"), "global_batch");
  EXPECT_EQ(v.text("fraction"), "choices");
  EXPECT_EQ(v.text("over_layers"), "mean");
  EXPECT_TRUE(v.flag("buffer"));
  EXPECT_EQ(v.number("mixed_weight"), 0.01);
  EXPECT_EQ(make_piece(balance_terms(), "z_loss").values.number("weight"), 0.001);
}

TEST(GlobalBatchTerm, CountsTheStepSoFarAndEachMicroBatchOnce) {
  SwitchBalance term({.scope = BalanceScope::kGlobalBatch, .fraction = FractionOf::kChoices});
  const auto first = batch_of({0, 0, 1, 0}, 1), second = batch_of({2, 2, 2, 1}, 2);
  loss_of(term, first, {.training = true, .micro_batch = 0});
  loss_of(term, first, {.training = true, .micro_batch = 0});
  EXPECT_EQ(to_floats(term.counted().experts), (std::vector<float>{3, 1, 0})) << "recomputed, counted once";
  loss_of(term, second, {.training = false});
  EXPECT_EQ(to_floats(term.counted().experts), (std::vector<float>{3, 1, 0})) << "evaluation counts nothing";
  const double loss = loss_of(term, second, {.training = true, .micro_batch = 1});
  EXPECT_EQ(to_floats(term.counted().experts), (std::vector<float>{3, 2, 3})) << "the whole global batch";
  const Tensor mean = second.first.probabilities.mean(0);
  EXPECT_NEAR(loss, switch_loss(tensor({3, 2, 3}, {3}) / 8, mean).item<double>(), 1e-6);
  term.end_step();
  EXPECT_FALSE(term.counted().experts.defined()) << "empty after the optimiser step";
  EXPECT_EQ(term.counted().tokens, 0);
}

TEST(GlobalBatchTerm, WithACountingPassIsExactInEveryMicroBatch) {
  SwitchBalance term(
      {.scope = BalanceScope::kGlobalBatch, .fraction = FractionOf::kChoices, .counting_pass = true});
  EXPECT_TRUE(term.wants_counting_pass());
  const std::vector<std::pair<Scores, Assignment>> batches = {batch_of({0, 0, 1}, 3),
                                                              batch_of({2, 1, 1, 1, 2}, 4)};
  for (int64_t i = 0; i < 2; ++i)
    term.count(batches[static_cast<size_t>(i)].second,
               {.training = true, .micro_batch = i, .counting = true});
  double sum = 0;
  for (int64_t i = 0; i < 2; ++i)
    sum += loss_of(term, batches[static_cast<size_t>(i)], {.training = true, .micro_batch = i});
  const Tensor all = at::cat({batches[0].first.probabilities, batches[1].first.probabilities}).mean(0);
  EXPECT_NEAR(sum / 2, switch_loss(tensor({2, 4, 2}, {3}) / 8, all).item<double>(), 1e-6)
      << "the mean of the micro-batches is the loss of the pooled batch";
}

TEST(GlobalBatchTerm, MixedAddsAShareOfTheMicroBatchLoss) {
  const auto first = batch_of({0, 0, 1, 0}, 1), second = batch_of({2, 2, 2, 1}, 2);
  const auto second_loss = [&](BalanceScope scope) {
    SwitchBalance term({.scope = scope, .fraction = FractionOf::kChoices, .mixed_weight = 0.25});
    loss_of(term, first, {.training = true});
    return loss_of(term, second, {.training = true});
  };
  EXPECT_NEAR(second_loss(BalanceScope::kMixed),
              second_loss(BalanceScope::kGlobalBatch) + 0.25 * second_loss(BalanceScope::kMicroBatch), 1e-6);
}

TEST(GlobalBatchTerm, ShuffledDrawsAsManyTokensAsAMicroBatchHas) {
  SwitchBalance term({.scope = BalanceScope::kShuffled, .fraction = FractionOf::kChoices});
  RandomStream random(9, "layer");
  const auto first = batch_of({0, 0, 0, 0}, 1), second = batch_of({2, 2, 2, 2}, 2);
  loss_of(term, first, {.training = true, .micro_batch = 0, .random = &random});
  const RoutingContext context{.training = true, .micro_batch = 1, .random = &random};
  const double loss = loss_of(term, second, context);
  const Tensor mean = second.first.probabilities.mean(0);
  bool is_a_draw = false;
  for (float n = 0; n <= 4; ++n)
    is_a_draw |= std::abs(switch_loss(tensor({n, 0, 4 - n}, {3}) / 4, mean).item<double>() - loss) < 1e-6;
  EXPECT_TRUE(is_a_draw) << "four of the eight tokens so far";
  const uint64_t position = random.position();
  EXPECT_EQ(loss_of(term, second, context), loss) << "recomputation sees the same draw";
  EXPECT_EQ(random.position(), position);
  EXPECT_EQ(error_of([&] { loss_of(term, second, {.layer = 3, .training = true}); }),
            "layer 3: the balance scope shuffled needs a random stream");
}

TEST(GlobalBatchTerm, ShuffledDrawsFromAllThatWasCountedBefore) {
  SwitchBalance term(
      {.scope = BalanceScope::kShuffled, .fraction = FractionOf::kChoices, .counting_pass = true});
  RandomStream random(9, "layer");
  const auto first = batch_of({0, 0, 0, 0}, 1), second = batch_of({2, 2, 2, 2}, 2);
  const auto count = [&](const std::pair<Scores, Assignment>& batch, int64_t micro_batch) {
    term.count(batch.second, {.training = true, .micro_batch = micro_batch, .counting = true});
  };
  const Tensor mean = first.first.probabilities.mean(0);
  int64_t of_the_second = 0;
  for (int step = 0; step < 20; ++step) {
    count(first, 0);
    count(second, 1);
    count(second, 1);  // computed again
    const double loss = loss_of(term, first, {.training = true, .micro_batch = 0, .random = &random});
    for (float n = 0; n <= 4; ++n) {
      if (std::abs(switch_loss(tensor({4 - n, 0, n}, {3}) / 4, mean).item<double>() - loss) < 1e-6)
        of_the_second += static_cast<int64_t>(n);
    }
    term.end_step();
  }
  EXPECT_NEAR(static_cast<double>(of_the_second) / (20 * 4), 0.5, 0.15)
      << "the first micro-batch sees the second one's tokens as often as its own";
}

TEST(GlobalBatchTerm, OfSequencesSumsToOneToo) {
  const Scores scores = scores_of(tensor({50, 0, 50, 0, 0, 50, 0, 50}, {4, 2}));
  SwitchBalance term({.scope = BalanceScope::kSequence, .fraction = FractionOf::kChoices});
  EXPECT_NEAR(term.loss(scores, assign(scores, {{0, 1}, {0, 1}, {0, 1}, {0, 1}}),
                        {.training = true, .num_sequences = 2})
                  .item<double>(),
              1, 1e-6);
}

TEST(GlobalBatchTerm, WithoutBufferAndOtherProcessesWarnsThatItIsTheMicroBatchLoss) {
  RouterSpec spec = spec_of("linear", "top_k");
  spec.balance = {make_piece(balance_terms(), "global_batch", {{"buffer", false}})};
  EXPECT_EQ(router_warnings(spec, 8),
            std::vector<std::string>{"[global_batch] scope = \"global_batch\" with buffer = false in one "
                                     "process balances each micro-batch "
                                     "by itself, as scope = \"micro_batch\" does; buffer = true counts the "
                                     "micro-batches of a step together"});
  EXPECT_TRUE(router_warnings(spec, 8, 2).empty());
  SwitchBalance term(
      {.scope = BalanceScope::kGlobalBatch, .fraction = FractionOf::kChoices, .buffer = false});
  SwitchBalance micro({.fraction = FractionOf::kChoices});
  const auto first = batch_of({0, 0, 1, 0}, 1), second = batch_of({2, 2, 2, 1}, 2);
  loss_of(term, first, {.training = true});
  EXPECT_EQ(loss_of(term, second, {.training = true}), loss_of(micro, second, {.training = true}));
  spec.balance = {make_piece(balance_terms(), "switch", {{"counting_pass", true}})};
  EXPECT_EQ(router_problems(spec, 8),
            std::vector<std::string>{
                "[switch] counting_pass = true counts a step before it is learned from, which scope = "
                "\"micro_batch\" "
                "does not use; set scope = \"global_batch\", \"mixed\" or \"shuffled\", or leave "
                "counting_pass out"});
}

TEST(LossFreeBias, CountsARecomputedMicroBatchOnce) {
  const auto bias_after = [](int times) {
    const auto term = make_term("loss_free_bias", {{"rate", 1.0}}, 3);
    const auto first = batch_of({0, 0, 1}, 1), second = batch_of({1, 1, 1}, 2);
    for (int i = 0; i < times; ++i)
      term->loss(first.first, first.second, {.training = true, .micro_batch = 0});
    term->loss(second.first, second.second, {.training = true, .micro_batch = 1});
    term->end_step();
    ParameterList list;
    term->collect(list, "gate");
    return to_floats(list.at(0).tensor);
  };
  EXPECT_EQ(bias_after(1), (std::vector<float>{0, -1, 1})) << "loads 2, 4, 0 around a mean of 2";
  EXPECT_EQ(bias_after(3), bias_after(1));
}

}  // namespace
}  // namespace gatewright
