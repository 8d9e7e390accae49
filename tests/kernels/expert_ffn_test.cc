#include "gatewright/kernels/cpu/expert_ffn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "each_target.h"
#include "gatewright/base/parallel.h"
#include "gatewright/base/random.h"

namespace gatewright::kernels {
namespace {

// One problem in double precision, computed by plain loops: what the kernels are held against.
struct Problem {
  FfnSizes sizes;
  bool biases = false;
  std::vector<int64_t> expert_begin, token;
  // hidden, pair weights, gate, up, down, and their biases
  std::vector<double> hidden, weight, gate, up, down, gate_bias, up_bias, down_bias, grad_out;

  std::vector<std::vector<double>*> inputs() {
    return {&hidden, &weight, &gate, &up, &down, &gate_bias, &up_bias, &down_bias};
  }
};

double activate(Activation kind, double gate, double up) {
  if (kind == Activation::swiglu) return gate / (1 + std::exp(-gate)) * up;
  if (kind == Activation::silu) return up / (1 + std::exp(-up));
  if (kind == Activation::gelu) return 0.5 * up * (1 + std::erf(up / std::sqrt(2.0)));
  return up < 0 ? 0 : up;
}

std::vector<double> reference_forward(const Problem& p) {
  const auto [T, H, F, E, kind, element] = p.sizes;
  std::vector<double> out(static_cast<size_t>(T * H), 0.0);
  const auto at = [](const std::vector<double>& v, int64_t i) { return v[static_cast<size_t>(i)]; };
  for (int64_t e = 0; e < E; ++e) {
    for (int64_t i = p.expert_begin[static_cast<size_t>(e)]; i < p.expert_begin[static_cast<size_t>(e) + 1];
         ++i) {
      const int64_t t = p.token[static_cast<size_t>(i)];
      std::vector<double> h(static_cast<size_t>(F));
      for (int64_t f = 0; f < F; ++f) {
        double g = p.biases && kind == Activation::swiglu ? at(p.gate_bias, e * F + f) : 0;
        double u = p.biases ? at(p.up_bias, e * F + f) : 0;
        for (int64_t k = 0; k < H; ++k) {
          if (kind == Activation::swiglu) g += at(p.gate, (e * F + f) * H + k) * at(p.hidden, t * H + k);
          u += at(p.up, (e * F + f) * H + k) * at(p.hidden, t * H + k);
        }
        h[static_cast<size_t>(f)] = activate(kind, g, u);
      }
      for (int64_t k = 0; k < H; ++k) {
        double y = p.biases ? at(p.down_bias, e * H + k) : 0;
        for (int64_t f = 0; f < F; ++f) y += at(p.down, (e * H + k) * F + f) * at(h, f);
        out[static_cast<size_t>(t * H + k)] += at(p.weight, i) * y;
      }
    }
  }
  return out;
}

double reference_loss(const Problem& p) {
  const auto out = reference_forward(p);
  return std::inner_product(out.begin(), out.end(), p.grad_out.begin(), 0.0);
}

/// Every token goes to each expert with probability `share`; expert 1 (if there is one) gets none.
Problem make_problem(FfnSizes sizes, bool biases, double share, uint64_t seed) {
  RandomStream random(seed, "expert_ffn");
  Problem p;
  p.sizes = sizes;
  p.biases = biases;
  p.expert_begin.push_back(0);
  for (int64_t e = 0; e < sizes.experts; ++e) {
    for (int64_t t = 0; t < sizes.tokens; ++t) {
      if (e != 1 && random.uniform() < share) p.token.push_back(t);
    }
    p.expert_begin.push_back(static_cast<int64_t>(p.token.size()));
  }
  const int64_t matrix = sizes.experts * sizes.width * sizes.hidden;
  const bool gated = sizes.activation == Activation::swiglu;
  const auto fill = [&](std::vector<double>& v, int64_t count, double scale) {
    v.resize(static_cast<size_t>(count));
    for (double& x : v) {
      // Numbers that both element types hold exactly.
      x = to_float(from_float<BFloat16>(static_cast<float>(scale) * random.normal()));
    }
  };
  fill(p.hidden, sizes.tokens * sizes.hidden, 1);
  fill(p.grad_out, sizes.tokens * sizes.hidden, 1);
  fill(p.weight, static_cast<int64_t>(p.token.size()), 1);
  fill(p.gate, gated ? matrix : 0, 0.3);
  fill(p.up, matrix, 0.3);
  fill(p.down, matrix, 0.3);
  fill(p.gate_bias, gated && biases ? sizes.experts * sizes.width : 0, 1);
  fill(p.up_bias, biases ? sizes.experts * sizes.width : 0, 1);
  fill(p.down_bias, biases ? sizes.experts * sizes.hidden : 0, 1);
  return p;
}

/// A problem's numbers in the element type, and what the kernels make of them.
template <typename T>
struct Computed {
  std::vector<T> hidden, gate, up, down, gate_bias, up_bias, down_bias, grad_out, out;
  std::vector<float> weight;
  // gradients in the order of Problem::inputs()
  std::vector<std::vector<T>> grads;
  std::vector<float> grad_weight;

  static std::vector<T> cast(const std::vector<double>& from) {
    std::vector<T> to;
    for (double v : from) to.push_back(from_float<T>(static_cast<float>(v)));
    return to;
  }
  static void* data(std::vector<T>& v) { return v.empty() ? nullptr : v.data(); }

  Computed(Problem& p, bool keep) {
    p.sizes.element = sizeof(T) == 4 ? Element::float32 : Element::bfloat16;
    hidden = cast(p.hidden), gate = cast(p.gate), up = cast(p.up), down = cast(p.down);
    gate_bias = cast(p.gate_bias), up_bias = cast(p.up_bias), down_bias = cast(p.down_bias);
    grad_out = cast(p.grad_out);
    weight.assign(p.weight.begin(), p.weight.end());
    out.resize(hidden.size());
    for (auto* input : p.inputs()) grads.emplace_back(input->size(), from_float<T>(77.0f));
    grad_weight.assign(weight.size(), 77.0f);
    const FfnPairs pairs = {p.expert_begin.data(), p.token.data(), weight.data()};
    const FfnWeights weights = {data(gate),      data(up),      data(down),
                                data(gate_bias), data(up_bias), data(down_bias)};
    std::vector<float> saved(static_cast<size_t>(ffn_saved_floats(p.sizes, pairs)));
    float* kept = keep && !saved.empty() ? saved.data() : nullptr;
    ffn_forward(p.sizes, pairs, weights, hidden.data(), kept, out.data());
    const FfnGradients gradients = {data(grads[2]), data(grads[3]), data(grads[4]),
                                    data(grads[5]), data(grads[6]), data(grads[7])};
    ffn_backward(p.sizes, pairs, weights, hidden.data(), kept, grad_out.data(), grads[0].data(),
                 grad_weight.data(), gradients);
  }

  double gradient(size_t input, size_t at) const {
    return input == 1 ? grad_weight[at] : to_float(grads[input][at]);
  }
};

template <typename T>
void expect_forward(const Computed<T>& run, const Problem& p, double tolerance) {
  const auto expected = reference_forward(p);
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(to_float(run.out[i]), expected[i], tolerance * (1 + std::abs(expected[i]))) << "output " << i;
}

/// Central differences of the double reference at some places of every input.
template <typename T>
void expect_gradients(const Computed<T>& run, Problem& p, double tolerance) {
  constexpr double kStep = 1e-5;
  const auto inputs = p.inputs();
  for (size_t input = 0; input < inputs.size(); ++input) {
    auto& values = *inputs[input];
    const size_t stride = std::max<size_t>(1, values.size() / 23);
    for (size_t i = 0; i < values.size(); i += stride) {
      const double before = values[i];
      values[i] = before + kStep;
      const double above = reference_loss(p);
      values[i] = before - kStep;
      const double below = reference_loss(p);
      values[i] = before;
      const double expected = (above - below) / (2 * kStep);
      ASSERT_NEAR(run.gradient(input, i), expected, tolerance * (1 + std::abs(expected)))
          << "input " << input << " at " << i;
    }
  }
}

struct Case {
  FfnSizes sizes;
  bool biases;
  double share;
};

const Case kCases[] = {
    {{.tokens = 5, .hidden = 8, .width = 8, .experts = 3}, false, 0.5},
    {{.tokens = 37, .hidden = 12, .width = 20, .experts = 4}, true, 0.7},
    {{.tokens = 70, .hidden = 33, .width = 17, .experts = 2}, false, 1.0},
    {{.tokens = 44, .hidden = 16, .width = 528, .experts = 1}, false, 0.8},
    {{.tokens = 21, .hidden = 35, .width = 40, .experts = 3, .activation = Activation::gelu}, true, 0.6},
    {{.tokens = 21, .hidden = 32, .width = 7, .experts = 3, .activation = Activation::relu}, true, 0.6},
    {{.tokens = 21, .hidden = 35, .width = 9, .experts = 3, .activation = Activation::silu}, true, 0.6},
};

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
    for (const Case& c : kCases) {
      Problem p = make_problem(c.sizes, c.biases, c.share, 3);
      const Computed<float> run(p, true);
      expect_forward(run, p, 2e-5);
      expect_gradients(run, p, 1e-4);
    }
  });
}

TEST(ExpertFfn, AgreesWithThePlainReferenceInBfloat16) {
  for_each_target([] {
    for (const Case& c : kCases) {
      Problem p = make_problem(c.sizes, c.biases, c.share, 4);
      const Computed<BFloat16> run(p, true);
      expect_forward(run, p, 0.01);  // a bfloat16 result has 8 bits
      expect_gradients(run, p, 0.01);
    }
  });
}

TEST(ExpertFfn, RecomputedActivationsGiveTheSameGradientsBitForBit) {
  Problem p = make_problem(kCases[1].sizes, true, 0.7, 5);
  const Computed<float> kept(p, true), again(p, false);
  EXPECT_EQ(kept.grads, again.grads);
  EXPECT_EQ(kept.grad_weight, again.grad_weight);
}

TEST(ExpertFfn, SumsOverManyRowsOfOneExpert) {
  Problem p = make_problem({.tokens = 600, .hidden = 20, .width = 9, .experts = 1}, false, 1.0, 6);
  const Computed<float> run(p, true);
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
      const Computed<float> run(p, true);
      expect_forward(run, p, 2e-5);
      expect_gradients(run, p, 2e-4);
      const Computed<BFloat16> rounded(p, true);
      expect_forward(rounded, p, 0.01);
    }
  });
}

TEST(ExpertFfn, AgreesWithThePlainReferenceBeyondOneStepOfAMatrix) {
  // 2^15 floats are a step: a width of 300 takes steps of 109 rows, the hidden size of 260 steps of 126.
  for_each_target([] {
    Problem p = make_problem({.tokens = 7, .hidden = 260, .width = 300, .experts = 1}, false, 1.0, 11);
    const Computed<float> run(p, true);
    expect_forward(run, p, 3e-4);  // sums of 300 terms up to a hundred
    expect_gradients(run, p, 1e-3);
  });
}

TEST(ExpertFfn, DoesNotDependOnTheNumberOfThreads) {
  const int threads = num_threads();
  Problem p = make_problem({.tokens = 300, .hidden = 24, .width = 40, .experts = 5}, true, 0.5, 7);
  set_num_threads(1);
  const Computed<float> one(p, true);
  set_num_threads(3);
  const Computed<float> three(p, true);
  set_num_threads(threads);
  EXPECT_EQ(one.out, three.out);
  EXPECT_EQ(one.grads, three.grads);
  EXPECT_EQ(one.grad_weight, three.grad_weight);
}

TEST(ExpertFfn, WithoutPairsIsZero) {
  for (int64_t tokens : {0, 4}) {
    Problem p = make_problem({.tokens = tokens, .hidden = 8, .width = 4, .experts = 2}, true, 0.0, 8);
    const Computed<float> run(p, true);
    EXPECT_TRUE(std::ranges::all_of(run.out, [](float v) { return v == 0; }));
    for (const auto& grad : run.grads) EXPECT_TRUE(std::ranges::all_of(grad, [](float v) { return v == 0; }));
  }
}

TEST(ExpertFfn, NotANumberReachesOnlyItsOwnToken) {
  for (const Activation kind : {Activation::swiglu, Activation::gelu, Activation::relu, Activation::silu}) {
    Problem p =
        make_problem({.tokens = 6, .hidden = 8, .width = 8, .experts = 1, .activation = kind}, false, 1.0, 9);
    p.hidden[3 * 8 + 2] = std::numeric_limits<double>::quiet_NaN();
    const Computed<float> run(p, true);
    for (size_t i = 0; i < run.out.size(); ++i) EXPECT_EQ(std::isnan(run.out[i]), i / 8 == 3) << i;
  }
}

}  // namespace
}  // namespace gatewright::kernels
