#include "gatewright/experts/slices.h"

#include <gtest/gtest.h>

#include "gatewright/routing/choice/selectors/row_selectors.h"
#include "tests/routing/routing_testing.h"

namespace gatewright {
namespace {

Tensor values(at::IntArrayRef shape, uint64_t seed) {
  RandomStream random(seed, "values");
  return normals(shape, random).to(at::kDouble);
}

/// W2 act(W1 x + b1) + b2, gated when there is a gate.
Tensor dense_output(const FfnTensors& f, const Tensor& x) {
  const Tensor up = x.mm(f.up.t()) + f.up_bias;
  const Tensor h = f.gate.defined() ? at::silu(x.mm(f.gate.t()) + f.gate_bias) * up : at::relu(up);
  return h.mm(f.down.t()) + f.down_bias;
}

TEST(SliceFfn, OfADenseFeedForwardIsItAgainWithAllExpertsAtEqualWeights) {
  for (const bool gated : {false, true}) {
    FfnTensors dense{.up = values({12, 5}, 1),
                     .down = values({5, 12}, 2),
                     .up_bias = values({12}, 3),
                     .down_bias = values({5}, 4)};
    if (gated) {
      dense.gate = values({12, 5}, 5);
      dense.gate_bias = values({12}, 6);
    }
    const Tensor x = values({7, 5}, 7), expected = dense_output(dense, x);
    for (int64_t experts : {1, 3, 4}) {
      // A zero gate: every token visits all experts, with the softmax of equal logits as weights.
      const Scores scores = scores_of(at::zeros({7, experts}));
      Assignment all = weigh({.weighting = choice::Weighting::kSoftmaxChosen}, scores,
                             choice::TopK(experts).choose(rows_of(scores.logits), {}));
      all.weight = at::full_like(all.weight, 1.0 / static_cast<double>(experts), at::kDouble);
      const FfnTensors slices = slice_ffn(dense, experts);
      const Tensor sum =
          expert_ffn_by_tensor_operations(x, all, slices, gated ? Activation::swiglu : Activation::relu);
      EXPECT_LT((sum - expected).abs().max().item<double>(), 1e-12) << experts << " experts";
      const FfnTensors joined = join_slices(slices);
      EXPECT_LT((dense_output(joined, x) - expected).abs().max().item<double>(), 1e-12);
    }
  }
}

TEST(SliceFfn, RefusesAWidthThatDoesNotDivide) {
  const FfnTensors dense{.up = values({10, 5}, 1), .down = values({5, 10}, 2)};
  EXPECT_EQ(error_of([&] { slice_ffn(dense, 4); }),
            "[slice_ffn] a width of 10 cannot be cut into 4 equal experts; choose a number that divides it");
}

}  // namespace
}  // namespace gatewright
