#include "gatewright/kernels/cpu/rotary.h"

#include <gtest/gtest.h>

#include "each_target.h"
#include "random_values.h"

namespace gatewright::kernels {
namespace {

TEST(RotaryKernel, TurnsByAQuarter) {
  const std::vector<float> x = {2, 5}, cosine = {1, 0}, sine = {0, 1};  // of the positions 0 and 1
  const int64_t position = 1;
  std::vector<float> out(2);
  rotate_halves(1, 1, 2, x.data(), cosine.data(), sine.data(), &position, 1, out.data());
  EXPECT_EQ(out, (std::vector<float>{-5, 2}));
}

TEST(RotaryKernel, TurnsEveryPairAndBackOnEveryTarget) {
  for_each_target([] {
    RandomStream random(1, "rotary");
    for (const int64_t half : {1, 5, 16, 37}) {
      constexpr int64_t tokens = 40, heads = 3, positions = 9;
      const auto x = normals(tokens * heads * 2 * half, random);
      std::vector<float> cosine, sine, out(x.size());
      for (int64_t i = 0; i < positions * half; ++i) {
        const float angle = random.normal();
        cosine.push_back(std::cos(angle));
        sine.push_back(std::sin(angle));
      }
      std::vector<int64_t> position;
      for (int64_t t = 0; t < tokens; ++t) position.push_back(static_cast<int64_t>(random.below(positions)));
      rotate_halves(tokens, heads, 2 * half, x.data(), cosine.data(), sine.data(), position.data(), 1,
                    out.data());
      std::vector<double> expected(x.size());
      for (int64_t h = 0; h < tokens * heads; ++h) {
        for (int64_t i = 0; i < half; ++i) {
          const auto at = static_cast<size_t>(h * 2 * half + i), other = at + static_cast<size_t>(half);
          const auto angle = static_cast<size_t>(position[static_cast<size_t>(h / heads)] * half + i);
          expected[at] = double{x[at]} * double{cosine[angle]} - double{x[other]} * double{sine[angle]};
          expected[other] = double{x[other]} * double{cosine[angle]} + double{x[at]} * double{sine[angle]};
        }
      }
      EXPECT_LT(largest_difference(out, expected), 1e-6);
      rotate_halves(tokens, heads, 2 * half, out.data(), cosine.data(), sine.data(), position.data(), -1,
                    out.data());
      EXPECT_LT(largest_difference(out, x), 1e-6);
    }
  });
}

}  // namespace
}  // namespace gatewright::kernels
