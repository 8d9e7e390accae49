#include "gatewright/train/adamw.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"
#include "tests/random_tensors.h"

namespace gatewright {
namespace {

ParameterList adamw_parameters(uint64_t seed) {
  RandomStream random(seed, "adamw");
  return {{"weight", leaf(normals({101, 173}, random)), true}, {"norm", leaf(normals({33}, random)), false}};
}

TEST(AdamW, FirstStepMovesByTheLearningRateAfterTheDecay) {
  // m / (1 - beta1) = g and sqrt(v / (1 - beta2)) = |g|: the step is the learning rate times the sign.
  ParameterList list = {{"a", leaf(at::tensor({2.0f})), true}, {"b", leaf(at::tensor({2.0f})), false}};
  for (NamedTensor& p : list) p.tensor.mutable_grad() = at::tensor({-4.0f});
  AdamW optimiser(list, {.weight_decay = 0.5});
  optimiser.step(0.1);
  EXPECT_NEAR(list[0].tensor.item<float>(), 2 * (1 - 0.1 * 0.5) + 0.1, 1e-6);
  EXPECT_NEAR(list[1].tensor.item<float>(), 2 + 0.1, 1e-6);
}

TEST(AdamW, FollowsTheFormulaInFloat64OverManySteps) {
  ParameterList list = adamw_parameters(1);
  AdamW optimiser(list, {});
  std::vector<Tensor> p, m, v;
  for (const NamedTensor& entry : list) {
    p.push_back(entry.tensor.detach().to(at::kDouble));
    m.push_back(at::zeros_like(p.back()));
    v.push_back(at::zeros_like(p.back()));
  }
  for (int t = 1; t <= 20; ++t) {
    set_gradients(list, static_cast<uint64_t>(t));
    optimiser.step(1e-2, 0.5);
    for (size_t i = 0; i < list.size(); ++i) {
      const Tensor g = list[i].tensor.grad().to(at::kDouble) * 0.5;
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.95 * v[i] + 0.05 * g * g;
      if (list[i].weight_decay) p[i] = p[i] * (1 - 1e-2 * 0.1);
      p[i] = p[i] - 1e-2 * (m[i] / (1 - std::pow(0.9, t))) / ((v[i] / (1 - std::pow(0.95, t))).sqrt() + 1e-8);
    }
  }
  for (size_t i = 0; i < list.size(); ++i) EXPECT_LT(difference(list[i].tensor, p[i]), 1e-5);
}

TEST(AdamW, GoesOnFromASavedStateBitForBitWithAnyNumberOfThreads) {
  const int threads = num_threads();
  ParameterList list = adamw_parameters(2);
  AdamW whole(list, {});
  set_gradients(list, 1);
  whole.step(1e-3);
  ParameterList copy = list;
  for (NamedTensor& p : copy) p.tensor = leaf(p.tensor);
  AdamW resumed(copy, {});
  resumed.load_state(whole.state(), whole.steps());
  set_gradients(list, 2);
  set_gradients(copy, 2);
  whole.step(1e-3);
  set_num_threads(1);
  resumed.step(1e-3);
  set_num_threads(threads);
  for (size_t i = 0; i < list.size(); ++i) EXPECT_TRUE(at::equal(list[i].tensor, copy[i].tensor));
}

TEST(AdamW, RefusesAStateWithoutOneOfItsTensors) {
  AdamW optimiser(adamw_parameters(3), {});
  ParameterList state = optimiser.state();
  state.pop_back();
  try {
    optimiser.load_state(state, 1);
    FAIL() << "accepted an incomplete state";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("norm.second_moment"), std::string::npos) << error.what();
  }
}

TEST(GradientNorm, IsTheRootOfTheSumOfSquaresOfAllGradients) {
  ParameterList list = {
      {"a", leaf(at::zeros({2}))}, {"b", leaf(at::zeros({1}))}, {"c", leaf(at::zeros({1}))}};
  list[0].tensor.mutable_grad() = at::tensor({2.0f, 3.0f});
  list[1].tensor.mutable_grad() = at::tensor({6.0f});
  EXPECT_DOUBLE_EQ(gradient_norm(list), 7.0);
  EXPECT_DOUBLE_EQ(clip_factor(7.0, 3.5), 0.5);
  EXPECT_DOUBLE_EQ(clip_factor(7.0, 8.0), 1.0);
  EXPECT_TRUE(std::isnan(clip_factor(std::nan(""), 1.0)));
}

}  // namespace
}  // namespace gatewright
