#include "gatewright/kernels/cpu/rms_norm.h"

#include <gtest/gtest.h>

#include "each_target.h"
#include "random_values.h"

namespace gatewright::kernels {
namespace {

struct ExpectedRmsNorm {
  std::vector<double> sum, out, grad_x, grad_weight;
};

/// grad_x by the quotient rule: d out_j / d x_i = r w_j ((i == j) - n_i n_j / size).
ExpectedRmsNorm rms_norm_loops(const RmsNormSizes& s, const std::vector<float>& x,
                               const std::vector<float>& delta, const std::vector<float>& weight,
                               const std::vector<float>& grad_out, const std::vector<float>& grad_sum) {
  const auto size = static_cast<size_t>(s.size), rows = static_cast<size_t>(s.rows);
  ExpectedRmsNorm e = {std::vector<double>(x.size()), std::vector<double>(x.size()),
                       std::vector<double>(x.size()), std::vector<double>(size)};
  for (size_t r = 0; r < rows; ++r) {
    double squares = 0;
    for (size_t i = r * size; i < (r + 1) * size; ++i) {
      e.sum[i] = double{x[i]} + double{delta[i]};
      squares += e.sum[i] * e.sum[i];
    }
    const double root = std::sqrt(squares / static_cast<double>(size) + double{s.epsilon});
    for (size_t i = 0; i < size; ++i) {
      const double normal = e.sum[r * size + i] / root;
      e.out[r * size + i] = normal * double{weight[i]};
      e.grad_weight[i] += double{grad_out[r * size + i]} * normal;
      double gradient = double{grad_sum[r * size + i]};
      for (size_t j = 0; j < size; ++j) {
        const double slope =
            (i == j ? 1 : 0) - normal * e.sum[r * size + j] / root / static_cast<double>(size);
        gradient += double{grad_out[r * size + j]} * double{weight[j]} * slope / root;
      }
      e.grad_x[r * size + i] = gradient;
    }
  }
  return e;
}

TEST(RmsNormKernel, AgreesWithPlainLoopsOnEveryTarget) {
  for_each_target([] {
    RandomStream random(1, "norm");
    for (const RmsNormSizes& s : {RmsNormSizes{1, 1, 0.1f}, RmsNormSizes{3, 45, 1e-5f},
                                  RmsNormSizes{150, 32, 1e-5f}, RmsNormSizes{2, 67, 0}}) {
      const int64_t count = s.rows * s.size;
      const auto x = normals(count, random), delta = normals(count, random), weight = normals(s.size, random);
      const auto grad_out = normals(count, random), grad_sum = normals(count, random);
      std::vector<float> sum(x.size()), out(x.size()), grad_x(x.size()), grad_weight(weight.size());
      std::vector<float> inverse(static_cast<size_t>(s.rows));
      rms_norm_forward(s, x.data(), delta.data(), weight.data(), sum.data(), out.data(), inverse.data());
      rms_norm_backward(s, sum.data(), weight.data(), inverse.data(), grad_out.data(), grad_sum.data(),
                        grad_x.data(), grad_weight.data());
      const ExpectedRmsNorm e = rms_norm_loops(s, x, delta, weight, grad_out, grad_sum);
      EXPECT_LT(largest_difference(sum, e.sum), 1e-6);
      EXPECT_LT(largest_difference(out, e.out), 1e-5);
      EXPECT_LT(largest_difference(grad_x, e.grad_x), 1e-4);
      EXPECT_LT(largest_difference(grad_weight, e.grad_weight), 1e-4);
    }
  });
}

TEST(RmsNormKernel, WithoutASummandTakesTheRowsThemselves) {
  const std::vector<float> x = {3, 4}, weight = {1, 2}, grad = {1, 0}, none = {0, 0};
  std::vector<float> out(2), inverse(1), grad_x(2), grad_weight(2);
  const RmsNormSizes s = {.rows = 1, .size = 2};
  rms_norm_forward(s, x.data(), nullptr, weight.data(), nullptr, out.data(), inverse.data());
  const double root = std::sqrt(12.5);
  EXPECT_LT(largest_difference(out, std::vector<double>{3 / root, 8 / root}), 1e-6);
  rms_norm_backward(s, x.data(), weight.data(), inverse.data(), grad.data(), nullptr, grad_x.data(),
                    grad_weight.data());
  // (1 - 9 / 25) / root and -12 / 25 / root
  EXPECT_LT(largest_difference(grad_x, std::vector<double>{0.64 / root, -0.48 / root}), 1e-6);
  EXPECT_LT(largest_difference(grad_weight, std::vector<double>{3 / root, 0}), 1e-6);
}

}  // namespace
}  // namespace gatewright::kernels
