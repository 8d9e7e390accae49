// SMoE-Dropout in training: k follows its schedule, the gate is never touched.
#include <gmock/gmock.h>

#include "tests/train/small_training.h"

namespace gatewright {
namespace {

using testing::HasSubstr;

std::vector<std::string> smoe_dropout() {
  return {"routing.scorer=fixed_linear",
          "routing.selector=scheduled_top_k",
          "routing.weights=softmax_chosen",
          "experts.bank=relu",
          "experts.biases=true",
          "balance.switch.weight=0",
          "train.steps=4"};
}

TEST(SmoeDropout, NeverTrainsItsGate) {
  Setting setting(smoe_dropout());
  std::map<std::string, Tensor> before;
  for (const NamedTensor& p : setting.parameters()) before[p.name] = p.tensor.detach().clone();
  for (int i = 0; i < 4; ++i) setting.trainer.step();
  int gates = 0;
  for (const NamedTensor& p : setting.parameters()) {
    const bool gate = p.name.find("mlp.gate.") != std::string::npos;
    gates += gate;
    EXPECT_EQ(at::equal(p.tensor, before[p.name]), gate) << p.name;
  }
  EXPECT_EQ(gates, 2) << "weight and bias";
  for (const NamedTensor& p : setting.trainer.state()) EXPECT_EQ(p.name.find("mlp.gate."), std::string::npos);
}

TEST(SmoeDropout, VisitsMoreExpertsFromStepToStepAndAllInUse) {
  Setting setting(smoe_dropout());
  std::vector<double> experts;
  for (int i = 0; i < 4; ++i) {
    setting.trainer.step();
    experts.push_back(setting.trainer.take_statistics().experts_per_token());
  }
  EXPECT_EQ(experts, (std::vector<double>{2, 2, 3, 4})) << "2 + round(2 s / 4), half to even";
  const Batch batch{.tokens = at::arange(8, at::kLong).view({1, 8})};
  EXPECT_EQ(setting.model.forward(batch).routing[0].assignment.num_pairs(), 8 * 4);
  EXPECT_EQ(experts_per_token(setting.recipe.model.layers[0], -1), 4);
}

TEST(SmoeDropout, RefusesSchedulesThatDoNotFitTheTrainingOrTheExperts) {
  const auto problem = [](const std::vector<std::string>& more) {
    std::vector<std::string> settings = smoe_dropout();
    settings.insert(settings.end(), more.begin(), more.end());
    return error_of([&] { small_recipe(settings); });
  };
  EXPECT_THAT(problem({"routing.k_schedule=exp_increase", "train.steps=299"}),
              HasSubstr("exp_increase needs at least 300 training steps, got 299"));
  EXPECT_THAT(problem({"routing.k_max=5"}), HasSubstr("k_max = 5 of 4 experts; choose at most 4"));
  EXPECT_THAT(problem({"routing.k_min=-1"}), HasSubstr("k_min must"));
  EXPECT_THAT(problem({"routing.k_min=4", "routing.k_max=2"}), HasSubstr("k_min = 4 is more than k_max = 2"));
}

}  // namespace
}  // namespace gatewright
