#include <gtest/gtest.h>

#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/layers/cross_entropy.h"
#include "gatewright/layers/linear.h"
#include "gatewright/layers/rms_norm.h"
#include "gatewright/layers/rotary.h"
#include "tests/random_tensors.h"

namespace gatewright {
namespace {

TEST(RmsNorm, DividesByTheRootOfTheMeanSquare) {
  const Tensor x = at::tensor({3.0f, 4.0f}), weight = at::tensor({1.0f, 2.0f});
  const double root = std::sqrt(12.5);
  EXPECT_LT(difference(rms_norm(x, weight, 0), at::tensor({3 / root, 8 / root})), 1e-6);
}

TEST(RmsNorm, AndItsGradientsAgreeWithFloat64) {
  RandomStream random(1, "norm");
  const Tensor x = leaf(normals({3, 67, 45}, random)), weight = leaf(normals({45}, random));
  const Tensor grad = normals(x.sizes(), random), x64 = double_leaf(x), weight64 = double_leaf(weight);
  rms_norm(x, weight, 1e-5).backward(grad);
  rms_norm_by_tensor_operations(x64, weight64, 1e-5).backward(grad.to(at::kDouble));
  EXPECT_LT(difference(x.grad(), x64.grad()), 1e-5);
  EXPECT_LT(difference(weight.grad(), weight64.grad()), 1e-5);
}

TEST(AddRmsNorm, IsTheSumAndItsNormAndSoAreItsGradients) {
  RandomStream random(5, "norm");
  const Tensor x = leaf(normals({3, 7, 45}, random)), delta = leaf(normals({3, 7, 45}, random));
  const Tensor weight = leaf(normals({45}, random));
  const Tensor grad_sum = normals(x.sizes(), random), grad_norm = normals(x.sizes(), random);
  const Tensor x64 = double_leaf(x), delta64 = double_leaf(delta), weight64 = double_leaf(weight);
  const auto run = [&](const Tensor& a, const Tensor& b, const Tensor& w) {
    const SumAndNorm result = add_rms_norm(a, b, w, 1e-5);
    ((result.sum * grad_sum).sum() + (result.norm * grad_norm).sum()).backward();
    return result;
  };
  const SumAndNorm result = run(x, delta, weight), expected = run(x64, delta64, weight64);
  EXPECT_LT(difference(result.sum, expected.sum), 1e-6);
  EXPECT_LT(difference(result.norm, expected.norm), 1e-5);
  EXPECT_LT(difference(x.grad(), x64.grad()), 1e-5);
  EXPECT_LT(difference(delta.grad(), delta64.grad()), 1e-5);
  EXPECT_LT(difference(weight.grad(), weight64.grad()), 1e-5);
}

TEST(AddRmsNorm, RefusesSummandsOfTwoShapes) {
  EXPECT_THROW(add_rms_norm(at::zeros({2, 3}), at::zeros({1, 3}), at::ones({3}), 1e-5), Error);
}

TEST(Rotary, AndItsGradientsAgreeWithTensorOperations) {
  RandomStream random(6, "rotary");
  const RotaryTable table = make_rotary_table(64, 10, 100.0);
  const Tensor x = leaf(normals({2, 7, 3, 10}, random)), x64 = double_leaf(x);
  const Tensor positions = at::arange(14).view({2, 7}) * 3, grad = normals(x.sizes(), random);
  const Tensor out = rotary(x, table, positions);
  const Tensor expected = rotary_by_tensor_operations(x64, table, positions);
  out.backward(grad);
  expected.backward(grad.to(at::kDouble));
  EXPECT_LT(difference(out, expected), 1e-5);
  EXPECT_LT(difference(x.grad(), x64.grad()), 1e-5);
}

TEST(Rotary, RefusesAPositionBeyondItsTable) {
  const RotaryTable table = make_rotary_table(4, 2, 100.0);
  EXPECT_THROW(rotary(at::zeros({1, 1, 1, 2}), table, at::full({1, 1}, 4, at::kLong)), Error);
}

TEST(Rotary, TurnsPairsByTheAngleOfThePosition) {
  const RotaryTable table = make_rotary_table(8, 2, 10000.0);
  const Tensor x = at::tensor({1.0f, 0.0f}).view({1, 1, 1, 2}), at_three = at::full({1, 1}, 3, at::kLong);
  const Tensor expected = at::tensor({std::cos(3.0), std::sin(3.0)});
  EXPECT_LT(difference(rotary(x, table, at_three).flatten(), expected), 1e-6);
  EXPECT_LT(difference(rotary(x, table, at_three, RotaryOrder::kInterleaved).flatten(), expected), 1e-6);
}

TEST(Rotary, OrdersDifferOnlyInWhereThePairsLie) {
  RandomStream random(2, "rotary");
  const RotaryTable table = make_rotary_table(40, 6, 100.0);
  const Tensor x = normals({2, 5, 3, 6}, random), positions = at::arange(10).view({2, 5}) * 4;
  const Tensor order = at::tensor({0, 2, 4, 1, 3, 5}, at::kLong);
  const Tensor halves = rotary(x.index_select(3, order), table, positions);
  const Tensor interleaved = rotary(x, table, positions, RotaryOrder::kInterleaved);
  EXPECT_LT(difference(halves, interleaved.index_select(3, order)), 1e-6);
  EXPECT_LT(difference(halves.square().sum(-1), x.square().sum(-1)), 1e-5);
}

TEST(Rotary, ScoresDependOnTheDistanceOnly) {
  RandomStream random(3, "rotary");
  const RotaryTable table = make_rotary_table(64, 8, 10000.0);
  const Tensor q = normals({1, 1, 1, 8}, random), k = normals({1, 1, 1, 8}, random);
  const auto score = [&](int64_t i, int64_t j) {
    const auto turned = [&](const Tensor& x, int64_t p) {
      return rotary(x, table, at::full({1, 1}, p, at::kLong));
    };
    return (turned(q, i) * turned(k, j)).sum().item<double>();
  };
  EXPECT_NEAR(score(9, 4), score(55, 50), 1e-4);
}

TEST(Linear, IsTheProductWithTheTransposedWeightPlusTheBias) {
  const Tensor x = at::tensor({1.0f, 2.0f}).view({1, 1, 2}), bias = at::tensor({10.0f, 20.0f, 30.0f});
  const Tensor weight = at::tensor({1.0f, 0.0f, 0.0f, 1.0f, 1.0f, 1.0f}).view({3, 2});
  EXPECT_TRUE(at::equal(linear_layer(x, weight, bias), at::tensor({11.0f, 22.0f, 33.0f}).view({1, 1, 3})));
}

TEST(Linear, AndItsGradientsAgreeWithFloat64) {
  RandomStream random(7, "linear");
  for (const int64_t rows : {1, 16, 70}) {
    const Tensor x = leaf(normals({rows, 33}, random)), weight = leaf(normals({21, 33}, random));
    const Tensor bias = leaf(normals({21}, random)), grad = normals({rows, 21}, random);
    const Tensor x64 = double_leaf(x), weight64 = double_leaf(weight), bias64 = double_leaf(bias);
    const Tensor out = linear_layer(x, weight, bias), expected = linear_layer(x64, weight64, bias64);
    out.backward(grad);
    expected.backward(grad.to(at::kDouble));
    EXPECT_LT(difference(out, expected), 1e-5);
    EXPECT_LT(difference(x.grad(), x64.grad()), 1e-5);
    EXPECT_LT(difference(weight.grad(), weight64.grad()), 1e-4);
    EXPECT_LT(difference(bias.grad(), bias64.grad()), 1e-5);
  }
}

TEST(Embedding, SumsTheGradientsOfATokenThatOccursTwice) {
  const Tensor weight = leaf(at::zeros({3, 2}));
  embed_tokens(at::tensor({1, 1, 2}, at::kLong), weight).sum().backward();
  EXPECT_TRUE(at::equal(weight.grad().select(1, 0), at::tensor({0.0f, 2.0f, 1.0f})));
}

struct HeadCase {
  Tensor hidden, head, targets;
};
HeadCase random_head(int64_t tokens, int64_t vocabulary, RandomStream& random) {
  HeadCase c = {normals({tokens, 12}, random), normals({vocabulary, 12}, random),
                at::empty({tokens}, at::kLong)};
  for (int64_t t = 0; t < tokens; ++t) {
    const auto target = static_cast<int64_t>(random.uniform() * static_cast<float>(vocabulary - 1));
    c.targets[t] = random.uniform() < 0.2f ? -1 : target;
  }
  return c;
}

/// The eager composition in float64.
Tensor eager_losses(const Tensor& hidden, const Tensor& head, const Tensor& targets) {
  const Tensor log_p = at::log_softmax(at::mm(hidden, head.t()), 1);
  const Tensor losses = -log_p.gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1);
  return losses * targets.ge(0).to(losses.scalar_type());
}

TEST(LinearCrossEntropy, OfEqualLogitsIsTheLogarithmOfTheVocabulary) {
  const Tensor loss =
      linear_cross_entropy(at::zeros({3, 2}), at::zeros({8, 2}), at::tensor({1, -1, 7}, at::kLong));
  EXPECT_NEAR(loss.item<double>(), std::log(8.0), 1e-6);
}

TEST(LinearCrossEntropy, AndItsGradientsAgreeWithTheEagerComposition) {
  RandomStream random(4, "cross entropy");
  const HeadCase c = random_head(1100, 301, random);
  const Tensor hidden64 = double_leaf(c.hidden), head64 = double_leaf(c.head);
  const Tensor losses = eager_losses(hidden64, head64, c.targets);
  const Tensor expected = losses.sum() / c.targets.ge(0).sum().to(at::kDouble);
  (expected * 3).backward();
  EXPECT_LT(difference(token_losses(c.hidden, c.head, c.targets), losses), 1e-5);
  for (const auto type : {at::kFloat, at::kDouble}) {
    const Tensor hidden = leaf(c.hidden.to(type)), head = leaf(c.head.to(type));
    const Tensor loss = linear_cross_entropy(hidden, head, c.targets);
    (loss * 3).backward();
    EXPECT_LT(difference(loss, expected), 1e-6);
    EXPECT_LT(difference(hidden.grad(), hidden64.grad()), 1e-6);
    EXPECT_LT(difference(head.grad(), head64.grad()), 1e-6);
  }
}

TEST(LinearCrossEntropy, WithoutAnyTargetIsZeroAndSoAreItsGradients) {
  const Tensor hidden = leaf(at::ones({2, 3})), head = leaf(at::ones({4, 3}));
  const Tensor loss = linear_cross_entropy(hidden, head, at::full({2}, -1, at::kLong));
  loss.backward();
  EXPECT_EQ(loss.item<float>(), 0.0f);
  EXPECT_EQ(hidden.grad().abs().max().item<float>(), 0.0f);
}

TEST(LinearCrossEntropy, HandsItsGradientsOverOnce) {
  const Tensor hidden = leaf(at::ones({2, 3}));
  const Tensor loss = linear_cross_entropy(hidden, at::ones({4, 3}), at::tensor({0, 1}, at::kLong));
  loss.backward({}, /*retain_graph=*/true);
  EXPECT_THROW(loss.backward(), Error);
}

TEST(LinearCrossEntropy, RefusesATargetOutsideTheVocabulary) {
  EXPECT_THROW(linear_cross_entropy(at::zeros({1, 2}), at::zeros({4, 2}), at::full({1}, 4, at::kLong)),
               Error);
}

}  // namespace
}  // namespace gatewright
