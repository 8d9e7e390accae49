#include "gatewright/kernels/cpu/cross_entropy.h"

#include <gtest/gtest.h>
#include <omp.h>

#include "each_target.h"
#include "random_values.h"

namespace gatewright::kernels {
namespace {

struct Case {
  HeadSizes s;
  std::vector<float> hidden, head;
  std::vector<int64_t> targets;
};

Case random_case(const HeadSizes& s, RandomStream& random) {
  Case c = {s, normals(s.tokens * s.hidden, random), normals(s.vocabulary * s.hidden, random), {}};
  for (int64_t t = 0; t < s.tokens; ++t)
    c.targets.push_back(static_cast<int64_t>(random.below(static_cast<uint64_t>(s.vocabulary + 1))) - 1);
  return c;
}

struct Result {
  std::vector<float> losses, grad_hidden, grad_head;
};

Result run_cross_entropy(const Case& c, float scale) {
  Result r = {std::vector<float>(c.targets.size(), NAN), std::vector<float>(c.hidden.size(), NAN),
              std::vector<float>(c.head.size(), NAN)};
  linear_cross_entropy(c.s, c.hidden.data(), c.head.data(), c.targets.data(), scale, r.losses.data(),
                       r.grad_hidden.data(), r.grad_head.data());
  return r;
}

struct ExpectedCrossEntropy {
  std::vector<double> losses, grad_hidden, grad_head;
};

/// Token by token in float64.
ExpectedCrossEntropy cross_entropy_loops(const Case& c, double scale) {
  ExpectedCrossEntropy e = {std::vector<double>(c.targets.size()), std::vector<double>(c.hidden.size()),
                            std::vector<double>(c.head.size())};
  const auto index = [](int64_t i) { return static_cast<size_t>(i); };
  for (int64_t t = 0; t < c.s.tokens; ++t) {
    const int64_t target = c.targets[index(t)];
    if (target < 0) continue;
    std::vector<double> p;
    double sum = 0;
    for (int64_t v = 0; v < c.s.vocabulary; ++v) {
      double logit = 0;
      for (int64_t h = 0; h < c.s.hidden; ++h)
        logit += double{c.hidden[index(t * c.s.hidden + h)]} * double{c.head[index(v * c.s.hidden + h)]};
      p.push_back(std::exp(logit));
      sum += p.back();
    }
    e.losses[index(t)] = -std::log(p[index(target)] / sum);
    for (int64_t v = 0; v < c.s.vocabulary; ++v) {
      const double gradient = scale * (p[index(v)] / sum - (v == target ? 1 : 0));
      for (int64_t h = 0; h < c.s.hidden; ++h) {
        e.grad_hidden[index(t * c.s.hidden + h)] += gradient * double{c.head[index(v * c.s.hidden + h)]};
        e.grad_head[index(v * c.s.hidden + h)] += gradient * double{c.hidden[index(t * c.s.hidden + h)]};
      }
    }
  }
  return e;
}

TEST(CrossEntropyKernel, OfTwoEqualLogitsIsTheLogarithmOfTwo) {
  const Case c = {{.tokens = 1, .vocabulary = 2, .hidden = 1}, {1}, {3, 3}, {1}};
  const Result r = run_cross_entropy(c, 1);
  EXPECT_NEAR(r.losses[0], std::log(2.0), 1e-6);
  EXPECT_LT(largest_difference(r.grad_hidden, std::vector<double>{0}), 1e-6);  // 3 (1/2) - 3 (1/2)
  EXPECT_LT(largest_difference(r.grad_head, std::vector<double>{0.5, -0.5}), 1e-6);
}

TEST(CrossEntropyKernel, AgreesWithPlainLoopsOnEveryTarget) {
  for_each_target([] {
    RandomStream random(1, "cross entropy");
    for (const HeadSizes& s : {HeadSizes{1, 1, 1}, HeadSizes{5, 33, 7}, HeadSizes{70, 90, 40},
                               HeadSizes{33, 1000, 32}, HeadSizes{600, 45, 9}}) {
      SCOPED_TRACE(::testing::Message() << s.tokens << " x " << s.vocabulary << " x " << s.hidden);
      const Case c = random_case(s, random);
      const Result r = run_cross_entropy(c, 0.5f);
      const ExpectedCrossEntropy e = cross_entropy_loops(c, 0.5);
      EXPECT_LT(largest_difference(r.losses, e.losses), 2e-5);
      EXPECT_LT(largest_difference(r.grad_hidden, e.grad_hidden), 2e-5);
      EXPECT_LT(largest_difference(r.grad_head, e.grad_head), 5e-5);
    }
  });
}

// One running sum would round each of the small exponentials the same way.
TEST(CrossEntropyKernel, LosesNoSmallOnesOfALargeVocabulary) {
  for_each_target([] {
    constexpr int64_t kVocabulary = 100'000;
    Case c = {
        {.tokens = 1, .vocabulary = kVocabulary, .hidden = 1}, {1}, std::vector<float>(kVocabulary), {0}};
    c.head[0] = 8;
    EXPECT_NEAR(run_cross_entropy(c, 1).losses[0], std::log1p((kVocabulary - 1) * std::exp(-8.0)), 2e-5);
  });
}

TEST(CrossEntropyKernel, LeavesOutWhatIsNotWanted) {
  RandomStream random(2, "cross entropy");
  const Case c = random_case({.tokens = 40, .vocabulary = 50, .hidden = 6}, random);
  const Result whole = run_cross_entropy(c, 1);
  std::vector<float> losses(c.targets.size()), grad_head(c.head.size());
  linear_cross_entropy(c.s, c.hidden.data(), c.head.data(), c.targets.data(), 1, losses.data(), nullptr,
                       grad_head.data());
  EXPECT_EQ(losses, whole.losses);
  EXPECT_EQ(grad_head, whole.grad_head);
}

TEST(CrossEntropyKernel, OfNoTokensHasNoGradient) {
  const Case c = {{.tokens = 0, .vocabulary = 3, .hidden = 1}, {}, {1, 2, 3}, {}};
  EXPECT_EQ(run_cross_entropy(c, 1).grad_head, (std::vector<float>{0, 0, 0}));
}

TEST(CrossEntropyKernel, GivesTheSameBitsWithAnyNumberOfThreads) {
  RandomStream random(3, "cross entropy");
  const Case c = random_case({.tokens = 700, .vocabulary = 1100, .hidden = 256}, random);
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const Result one = run_cross_entropy(c, 1);
  omp_set_num_threads(3);
  const Result three = run_cross_entropy(c, 1);
  omp_set_num_threads(before);
  EXPECT_EQ(one.losses, three.losses);
  EXPECT_EQ(one.grad_hidden, three.grad_hidden);
  EXPECT_EQ(one.grad_head, three.grad_head);
}

}  // namespace
}  // namespace gatewright::kernels
