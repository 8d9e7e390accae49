// Problems of the experts' kernels and their answers by plain loops in double precision: what the kernels of
// every device are held against.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "gatewright/base/random.h"
#include "gatewright/kernels/cpu/expert_ffn.h"

namespace gatewright::kernels {

/// Numbers in double precision, which float32 and bfloat16 both hold exactly.
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

inline double activate(Activation kind, double gate, double up) {
  if (kind == Activation::swiglu) return gate / (1 + std::exp(-gate)) * up;
  if (kind == Activation::silu) return up / (1 + std::exp(-up));
  if (kind == Activation::gelu) return 0.5 * up * (1 + std::erf(up / std::sqrt(2.0)));
  return up < 0 ? 0 : up;
}

inline std::vector<double> reference_forward(const Problem& p) {
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

inline double reference_loss(const Problem& p) {
  const auto out = reference_forward(p);
  return std::inner_product(out.begin(), out.end(), p.grad_out.begin(), 0.0);
}

/// Every token goes to each expert with probability `share`; expert 1 (if there is one) gets none.
inline Problem make_problem(FfnSizes sizes, bool biases, double share, uint64_t seed) {
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

/// A forward and a backward pass that a device's kernels shall make.
struct FfnCall {
  FfnSizes sizes;
  int64_t num_pairs;
  FfnPairs pairs;
  FfnWeights weights;
  const void* hidden;
  const void* grad_out;
  bool keep;  // values for the backward pass; computed again there otherwise
  void* out;
  void* grad_hidden;
  float* grad_weight;
  FfnGradients gradients;
};

/// A problem's numbers in the element type, and what the kernels that `compute` calls make of them.
template <typename T, auto compute>
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
    compute(FfnCall{.sizes = p.sizes,
                    .num_pairs = static_cast<int64_t>(weight.size()),
                    .pairs = pairs,
                    .weights = weights,
                    .hidden = hidden.data(),
                    .grad_out = grad_out.data(),
                    .keep = keep,
                    .out = out.data(),
                    .grad_hidden = grads[0].data(),
                    .grad_weight = grad_weight.data(),
                    .gradients = {data(grads[2]), data(grads[3]), data(grads[4]), data(grads[5]),
                                  data(grads[6]), data(grads[7])}});
  }

  double gradient(size_t input, size_t at) const {
    return input == 1 ? grad_weight[at] : to_float(grads[input][at]);
  }
};

template <typename T, auto compute>
void expect_forward(const Computed<T, compute>& run, const Problem& p, double tolerance) {
  const auto expected = reference_forward(p);
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(to_float(run.out[i]), expected[i], tolerance * (1 + std::abs(expected[i]))) << "output " << i;
}

/// Central differences of the double reference at some places of every input.
template <typename T, auto compute>
void expect_gradients(const Computed<T, compute>& run, Problem& p, double tolerance) {
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

struct FfnCase {
  FfnSizes sizes;
  bool biases;
  double share;
};

inline const FfnCase kFfnCases[] = {
    {{.tokens = 5, .hidden = 8, .width = 8, .experts = 3}, false, 0.5},
    {{.tokens = 37, .hidden = 12, .width = 20, .experts = 4}, true, 0.7},
    {{.tokens = 70, .hidden = 33, .width = 17, .experts = 2}, false, 1.0},
    {{.tokens = 44, .hidden = 16, .width = 528, .experts = 1}, false, 0.8},
    {{.tokens = 21, .hidden = 35, .width = 40, .experts = 3, .activation = Activation::gelu}, true, 0.6},
    {{.tokens = 21, .hidden = 32, .width = 7, .experts = 3, .activation = Activation::relu}, true, 0.6},
    {{.tokens = 21, .hidden = 35, .width = 9, .experts = 3, .activation = Activation::silu}, true, 0.6},
};

}  // namespace gatewright::kernels
