#include "gatewright/train/adafactor.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/random_tensors.h"

namespace gatewright {
namespace {

ParameterList adafactor_parameters(uint64_t seed) {
  RandomStream random(seed, "adafactor");
  return {{"stack", leaf(normals({3, 11, 7}, random)), true},
          {"matrix", leaf(normals({20, 9}, random) * 1e-5), true},
          {"norm", leaf(normals({13}, random)), false}};
}

double rms(const Tensor& x) { return x.square().mean().sqrt().item<double>(); }

/// One matrix or vector by the paper's algorithms 4 and 5, in double precision.
class Reference {
 public:
  explicit Reference(const Tensor& p) : p_(p.detach().to(at::kDouble)) {
    rows_ = at::zeros({p_.size(0)}, at::kDouble);
    columns_ = at::zeros({p_.dim() == 2 ? p_.size(1) : 1}, at::kDouble);
  }
  void step(const Tensor& gradient, int t, double rate) {
    const Tensor g = gradient.to(at::kDouble), square = g * g + 1e-30;
    const double beta = 1 - std::pow(t, -0.8);
    Tensor v;
    if (p_.dim() == 2) {
      rows_ = beta * rows_ + (1 - beta) * square.sum(1);
      columns_ = beta * columns_ + (1 - beta) * square.sum(0);
      v = at::outer(rows_, columns_) / rows_.sum();
    } else {
      rows_ = beta * rows_ + (1 - beta) * square;
      v = rows_;
    }
    const Tensor u = g / v.sqrt();
    p_ = p_ - rate * std::max(1e-3, rms(p_)) / std::max(1.0, rms(u)) * u;
  }
  const Tensor& value() const { return p_; }

 private:
  Tensor p_, rows_, columns_;
};

TEST(Adafactor, FollowsTheAlgorithmInFloat64AndTakesAStackForMatrices) {
  ParameterList list = adafactor_parameters(1);
  Adafactor optimiser(list, {});
  std::vector<Reference> references;
  for (int64_t e = 0; e < 3; ++e) references.emplace_back(list[0].tensor[e]);
  references.emplace_back(list[1].tensor);
  references.emplace_back(list[2].tensor);
  for (int t = 1; t <= 20; ++t) {
    set_gradients(list, static_cast<uint64_t>(t));
    optimiser.step(1e-2);
    for (int64_t e = 0; e < 3; ++e)
      references[static_cast<size_t>(e)].step(list[0].tensor.grad()[e], t, 1e-2);
    references[3].step(list[1].tensor.grad(), t, 1e-2);
    references[4].step(list[2].tensor.grad(), t, 1e-2);
  }
  for (int64_t e = 0; e < 3; ++e)
    EXPECT_LT(difference(list[0].tensor[e], references[static_cast<size_t>(e)].value()), 1e-5) << e;
  EXPECT_LT(difference(list[1].tensor, references[3].value()), 1e-5) << "smaller than epsilon2";
  EXPECT_LT(difference(list[2].tensor, references[4].value()), 1e-5);
}

TEST(Adafactor, KeepsRowsAndColumnsInPlaceOfMatrices) {
  const ParameterList state = Adafactor(adafactor_parameters(2), {}).state();
  ASSERT_EQ(state.size(), 5u);
  EXPECT_EQ(state[0].name, "stack.row_moment");
  EXPECT_EQ(state[0].tensor.sizes(), (at::IntArrayRef{3, 11}));
  EXPECT_EQ(state[1].tensor.sizes(), (at::IntArrayRef{3, 7}));
  EXPECT_EQ(state[4].name, "norm.second_moment");
}

TEST(Adafactor, LimitsUpdatesAndScalesThemAsAsked) {
  const auto moved = [](const AdafactorOptions& options) {
    ParameterList list = {{"a", leaf(at::full({2, 2}, 4.0f)), true}};
    Adafactor optimiser(list, options);
    for (const float g : {1.0f, 100.0f}) {  // the second is a surprise
      list[0].tensor.mutable_grad() = at::full({2, 2}, g);
      optimiser.step(0.01);
    }
    return 4 - list[0].tensor[0][0].item<double>();
  };
  EXPECT_NEAR(moved({.scale_parameter = false}), 0.02, 1e-6) << "both updates at most 1";
  EXPECT_GT(moved({.clip_threshold = 0, .scale_parameter = false}), 0.021);
  EXPECT_NEAR(moved({}), 0.01 * 4 + 0.01 * 4 * 0.99, 1e-5) << "relative to the matrix";
  EXPECT_NEAR(moved({.scale_parameter = false, .weight_decay = 0.5}), 4 - ((4 * 0.995 - 0.01) * 0.995 - 0.01),
              1e-5);
}

}  // namespace
}  // namespace gatewright
