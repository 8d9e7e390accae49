#include "gatewright/kernels/cpu/expert_ffn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "each_target.h"
#include "ffn_problem.h"
#include "gatewright/base/parallel.h"

namespace gatewright::kernels {
namespace {

void compute_on_cpu(const FfnCall& call) {
  std::vector<float> saved(static_cast<size_t>(ffn_saved_floats(call.sizes, call.pairs)));
  float* kept = call.keep && !saved.empty() ? saved.data() : nullptr;
  ffn_forward(call.sizes, call.pairs, call.weights, call.hidden, kept, call.out);
  ffn_backward(call.sizes, call.pairs, call.weights, call.hidden, kept, call.grad_out, call.grad_hidden,
               call.grad_weight, call.gradients);
}

template <typename T>
using OnCpu = Computed<T, compute_on_cpu>;

TEST(ExpertFfn, ComputesAHandCheckedExample) {
  // One expert of width 1 with relu: y = 2 max(0, x0 - x1), and a token that nobody computes.
  const float hidden[] = {3, 1, 1, 3, 5, 0};
  const float up[] = {1, -1};
  const float down[] = {2, 4};
  const int64_t begin[] = {0, 2};
  const int64_t token[] = {0, 1};
  const float weight[] = {0.5f, 1.0f};
  float out[6];
  const FfnSizes sizes = {.tokens = 3, .hidden = 2, .width = 1, .experts = 1, .activation = Activation::relu};
  ffn_forward(sizes, {begin, token, weight}, {.up = up, .down = down}, hidden, nullptr, out);
  EXPECT_EQ(std::vector<float>(out, out + 6), (std::vector<float>{2, 4, 0, 0, 0, 0}));
}

TEST(ExpertFfn, AgreesWithThePlainReferenceOnEveryTarget) {
  for_each_target([] {
    for (const FfnCase& c : kFfnCases) {
      Problem p = make_problem(c.sizes, c.biases, c.share, 3);
      const OnCpu<float> run(p, true);
      expect_forward(run, p, 2e-5);
      expect_gradients(run, p, 1e-4);
    }
  });
}

TEST(ExpertFfn, AgreesWithThePlainReferenceInBfloat16) {
  for_each_target([] {
    for (const FfnCase& c : kFfnCases) {
      Problem p = make_problem(c.sizes, c.biases, c.share, 4);
      const OnCpu<BFloat16> run(p, true);
      expect_forward(run, p, 0.01);  // a bfloat16 result has 8 bits
      expect_gradients(run, p, 0.01);
    }
  });
}

TEST(ExpertFfn, RecomputedActivationsGiveTheSameGradientsBitForBit) {
  Problem p = make_problem(kFfnCases[1].sizes, true, 0.7, 5);
  const OnCpu<float> kept(p, true), again(p, false);
  EXPECT_EQ(kept.grads, again.grads);
  EXPECT_EQ(kept.grad_weight, again.grad_weight);
}

TEST(ExpertFfn, SumsOverManyRowsOfOneExpert) {
  Problem p = make_problem({.tokens = 600, .hidden = 20, .width = 9, .experts = 1}, false, 1.0, 6);
  const OnCpu<float> run(p, true);
  expect_forward(run, p, 2e-5);
  expect_gradients(run, p, 2e-4);
}

TEST(ExpertFfn, AgreesWithThePlainReferenceForEveryFewRows) {
  // Odd widths, wider than a tile of columns; 96 or 192 rows are the last that take the products of few rows.
  for_each_target([] {
    for (const int64_t tokens :
         {1, 5, 6, 7, 13, 14, 15, 16, 17, 24, 25, 32, 33, 47, 65, 95, 96, 97, 100, 192, 193}) {
      SCOPED_TRACE(tokens);
      Problem p =
          make_problem({.tokens = tokens, .hidden = 37, .width = 35, .experts = 1}, tokens % 2 == 0, 1.0, 10);
      const OnCpu<float> run(p, true);
      expect_forward(run, p, 2e-5);
      expect_gradients(run, p, 2e-4);
      const OnCpu<BFloat16> rounded(p, true);
      expect_forward(rounded, p, 0.01);
    }
  });
}

TEST(ExpertFfn, AgreesWithThePlainReferenceBeyondOneStepOfAMatrix) {
  // 2^15 floats are a step: a width of 300 takes steps of 109 rows, the hidden size of 260 steps of 126.
  for_each_target([] {
    Problem p = make_problem({.tokens = 7, .hidden = 260, .width = 300, .experts = 1}, false, 1.0, 11);
    const OnCpu<float> run(p, true);
    expect_forward(run, p, 3e-4);  // sums of 300 terms up to a hundred
    expect_gradients(run, p, 1e-3);
  });
}

TEST(ExpertFfn, AgreesWithThePlainReferenceWhereRowsOfAMatrixAreLong) {
  // Dot products write their sums every 512 terms.
  for_each_target([] {
    for (const int64_t tokens : {3, 8, 17, 32, 40}) {
      SCOPED_TRACE(tokens);
      Problem p =
          make_problem({.tokens = tokens, .hidden = 1029, .width = 517, .experts = 1}, false, 1.0, 12);
      expect_forward(OnCpu<float>(p, true), p, 2e-3);  // sums of a thousand terms
      expect_forward(OnCpu<BFloat16>(p, true), p, 0.02);
    }
  });
}

TEST(ExpertFfn, DoesNotDependOnTheNumberOfThreads) {
  const int threads = num_threads();
  Problem p = make_problem({.tokens = 300, .hidden = 24, .width = 40, .experts = 5}, true, 0.5, 7);
  set_num_threads(1);
  const OnCpu<float> one(p, true);
  set_num_threads(3);
  const OnCpu<float> three(p, true);
  set_num_threads(threads);
  EXPECT_EQ(one.out, three.out);
  EXPECT_EQ(one.grads, three.grads);
  EXPECT_EQ(one.grad_weight, three.grad_weight);
}

TEST(ExpertFfn, WithoutPairsIsZero) {
  for (int64_t tokens : {0, 4}) {
    Problem p = make_problem({.tokens = tokens, .hidden = 8, .width = 4, .experts = 2}, true, 0.0, 8);
    const OnCpu<float> run(p, true);
    EXPECT_TRUE(std::ranges::all_of(run.out, [](float v) { return v == 0; }));
    for (const auto& grad : run.grads) EXPECT_TRUE(std::ranges::all_of(grad, [](float v) { return v == 0; }));
  }
}

TEST(ExpertFfn, NotANumberReachesOnlyItsOwnToken) {
  for (const Activation kind : {Activation::swiglu, Activation::gelu, Activation::relu, Activation::silu}) {
    Problem p =
        make_problem({.tokens = 6, .hidden = 8, .width = 8, .experts = 1, .activation = kind}, false, 1.0, 9);
    p.hidden[3 * 8 + 2] = std::numeric_limits<double>::quiet_NaN();
    const OnCpu<float> run(p, true);
    for (size_t i = 0; i < run.out.size(); ++i) EXPECT_EQ(std::isnan(run.out[i]), i / 8 == 3) << i;
  }
}

}  // namespace
}  // namespace gatewright::kernels
