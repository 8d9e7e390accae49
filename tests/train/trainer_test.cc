#include "gatewright/train/trainer.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numbers>

#include "gatewright/layers/cross_entropy.h"
#include "gatewright/train/packed_tensors.h"
#include "tests/train/small_training.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(Trainer, AStepReportsTheLossOfTheBatchItLearnsFrom) {
  Setting setting({"train.batch_size=3"});
  TrainStream same(setting.data.cache, 16, setting.data.token_bytes, setting.recipe.seed);
  const PackedBatch packed = same.next(3);
  const Batch batch = to_batch(packed);
  Tensor losses;
  {
    const at::NoGradGuard no_grad;
    const Tensor hidden = setting.model.forward(batch).hidden.reshape({-1, 32});
    losses = token_losses(hidden, setting.model.head(), batch.targets.reshape({-1}));
  }
  const double mean = losses.mean().item<double>();
  const StepResult result = setting.trainer.step();
  EXPECT_NEAR(result.loss, mean, 1e-5);
  EXPECT_EQ(result.tokens, 48);
  EXPECT_NEAR(result.bits_per_byte, mean * 48 / std::numbers::ln2 / static_cast<double>(packed.bytes), 1e-5);
  EXPECT_NEAR(result.learning_rate, 0.01 * 0.5, 1e-12) << "the first of two steps of warm-up";
  EXPECT_GT(result.gradient_norm, 0);
  EXPECT_EQ(setting.trainer.steps_done(), 1);
}

TEST(Trainer, ACountingPassChangesNoRandomDrawAndNoOtherTerm) {
  const auto weights_after_two_steps = [](const char* counting_pass) {
    Setting setting(
        {"balance.global_batch.weight=0", counting_pass, "routing.jitter.epsilon=0.2", "train.accumulate=2"});
    setting.trainer.step();
    setting.trainer.step();
    std::vector<Tensor> weights;
    for (const NamedTensor& p : setting.parameters()) weights.push_back(p.tensor.detach().clone());
    return weights;
  };
  const auto with = weights_after_two_steps("balance.global_batch.counting_pass=true"),
             without = weights_after_two_steps("balance.global_batch.counting_pass=false");
  for (size_t i = 0; i < with.size(); ++i) EXPECT_TRUE(at::equal(with[i], without[i])) << i;
}

TEST(Trainer, BalancesTheGlobalBatchExactlyWithACountingPass) {
  const auto balance_loss = [](const std::vector<std::string>& settings) {
    std::vector<std::string> all = {"balance.switch.weight=0", "balance.global_batch.weight=0.5"};
    all.insert(all.end(), settings.begin(), settings.end());
    return Setting(all).trainer.step().balance_loss;
  };
  const double pooled = balance_loss({"train.batch_size=6"});
  EXPECT_NEAR(
      balance_loss({"train.batch_size=2", "train.accumulate=3", "balance.global_batch.counting_pass=true"}),
      pooled, 1e-6);
  EXPECT_GT(std::abs(balance_loss({"train.batch_size=2", "train.accumulate=3"}) - pooled), 1e-6)
      << "the buffer is exact at the last micro-batch only";
}

TEST(Trainer, AccumulatedBatchesAreOneLargeBatch) {
  // Across the end of an epoch, where the last sequence is filled up and has fewer targets than the others.
  const std::vector<std::string> plain = {"balance.switch.weight=0", "train.epsilon=1e-4", "train.steps=30"};
  const auto with = [&](const char* batch, const char* accumulate) {
    std::vector<std::string> settings = plain;
    settings.insert(settings.end(), {batch, accumulate});
    return settings;
  };
  Setting large(with("train.batch_size=6", "train.accumulate=1"));
  Setting small(with("train.batch_size=2", "train.accumulate=3"));
  const int64_t steps = large.stream.sequences_per_epoch() / 6 + 2;
  bool filled = false;
  for (int64_t i = 0; i < steps; ++i) {
    const StepResult a = large.trainer.step(), b = small.trainer.step();
    EXPECT_EQ(a.tokens, b.tokens);
    filled = filled || a.tokens < 6 * 16;
    EXPECT_NEAR(a.loss, b.loss, 1e-4 * a.loss) << "step " << i;
    EXPECT_NEAR(a.bits_per_byte, b.bits_per_byte, 1e-4 * a.bits_per_byte);
    EXPECT_NEAR(a.gradient_norm, b.gradient_norm, 1e-3 * a.gradient_norm) << "step " << i;
  }
  EXPECT_TRUE(filled) << "no epoch ended inside a step";
  const ParameterList of_large = large.parameters(), of_small = small.parameters();
  for (size_t i = 0; i < of_large.size(); ++i)
    EXPECT_LT((of_large[i].tensor - of_small[i].tensor).abs().max().item<double>(), 2e-3) << of_large[i].name;
}

TEST(Trainer, ClippingBoundsTheUpdateAndReportsTheWholeNorm) {
  // With one step of plain gradient descent in disguise: a huge epsilon makes AdamW's step proportional to
  // the gradient.
  const std::vector<std::string> settings = {"train.epsilon=1", "train.weight_decay=0",
                                             "train.warmup_steps=0", "train.learning_rate=1"};
  const auto moved = [&](const std::string& clip) {
    std::vector<std::string> all = settings;
    all.push_back(clip);
    Setting setting(all);
    std::vector<Tensor> before;
    for (const NamedTensor& p : setting.parameters()) before.push_back(p.tensor.detach().clone());
    const double norm = setting.trainer.step().gradient_norm;
    double sum = 0;
    const ParameterList after = setting.parameters();
    for (size_t i = 0; i < before.size(); ++i)
      sum += (after[i].tensor.detach() - before[i]).square().sum().item<double>();
    return std::pair(norm, std::sqrt(sum));
  };
  const auto [norm, free] = moved("train.clip_norm=0");
  const auto [same_norm, clipped] = moved("train.clip_norm=0.001");
  EXPECT_NEAR(norm, same_norm, 1e-9);
  ASSERT_GT(norm, 0.1);
  EXPECT_NEAR(clipped, 0.001, 1e-4);
  EXPECT_GT(free, 20 * clipped);
}

TEST(Trainer, AWeightThatIsNoNumberStopsItAndChangesNothing) {
  Setting setting({});
  setting.trainer.step();
  std::vector<Tensor> before;
  {
    const at::NoGradGuard no_grad;
    setting.parameters()[0].tensor.fill_(std::nan(""));
    for (const NamedTensor& p : setting.parameters()) before.push_back(p.tensor.detach().clone());
  }
  EXPECT_THAT(error_of([&] { setting.trainer.step(); }), testing::Not(testing::IsEmpty()));
  const ParameterList after = setting.parameters();
  for (size_t i = 1; i < before.size(); ++i)
    EXPECT_TRUE(at::equal(after[i].tensor, before[i])) << after[i].name;
  EXPECT_EQ(setting.trainer.steps_done(), 1);
}

TEST(Trainer, AHeadThatIsNoNumberIsADivergence) {
  Setting setting({});
  setting.trainer.step();
  {
    const at::NoGradGuard no_grad;
    setting.parameters().back().tensor.fill_(std::nan(""));  // behind every router
  }
  try {
    setting.trainer.step();
    ADD_FAILURE() << "no error";
  } catch (const Diverged& e) {
    EXPECT_THAT(e.what(), AllOf(HasSubstr("diverged at step 2"), HasSubstr("the loss is not a number")));
  }
}

TEST(Trainer, BalanceTermsPullOnTheWeights) {
  Setting with({"balance.switch.weight=10"}), without({"balance.switch.weight=0"});
  const StepResult a = with.trainer.step(), b = without.trainer.step();
  EXPECT_NEAR(a.loss, b.loss, 1e-6) << "the loss that is reported is the cross entropy alone";
  EXPECT_NEAR(a.balance_loss, 20, 3) << "Switch's loss is top_k where experts are used evenly";
  EXPECT_EQ(b.balance_loss, 0);
  EXPECT_GT(a.gradient_norm, b.gradient_norm);
}

TEST(Trainer, StatisticsAreThoseSinceTheLastCall) {
  Setting setting({});
  setting.trainer.step();
  setting.trainer.step();
  EXPECT_EQ(setting.trainer.take_statistics().layers()[0].tokens, 2 * 64);
  setting.trainer.step();
  const RoutingStatistics one = setting.trainer.take_statistics();
  EXPECT_EQ(one.layers()[0].tokens, 64);
  EXPECT_EQ(one.experts_per_token(), 2);
  EXPECT_TRUE(setting.trainer.take_statistics().empty());
}

}  // namespace
}  // namespace gatewright
