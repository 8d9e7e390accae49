#include "gatewright/experts/packed_ffn.h"

#include <gtest/gtest.h>

#include "gatewright/experts/packed_tensor.h"
#include "tests/random_tensors.h"

namespace gatewright {
namespace {

constexpr int64_t kPackedHidden = 64, kPackedWidth = 32, kPackedExperts = 4, kPackedTokens = 9;

/// Matrices [out, in] of Q8_0: blocks of 32 bytes after a scale, here 1/512 as float16.
Tensor random_packed(int64_t out, int64_t in, RandomStream& random) {
  const auto bytes = std::make_shared<std::vector<std::byte>>();
  for (int64_t block = 0; block < kPackedExperts * out * in / 32; ++block) {
    bytes->insert(bytes->end(), {std::byte{0x00}, std::byte{0x18}});
    for (int i = 0; i < 32; ++i) bytes->push_back(static_cast<std::byte>(random.below(256)));
  }
  std::vector<PackedMatrix> matrices;
  for (int64_t e = 0; e < kPackedExperts; ++e)
    matrices.push_back({.type = DataType::kQ8_0,
                        .rows = out,
                        .columns = in,
                        .data = bytes->data() + static_cast<size_t>(e * out * in / 32 * 34)});
  return make_packed_tensor(matrices, true, bytes);
}

/// Expert 2 has no pairs, expert 3 has one.
Assignment some_pairs(RandomStream& random) {
  return {.expert_begin = at::tensor({0, 5, 12, 12, 13}, at::kLong),
          .token = at::tensor({0, 2, 3, 6, 8, 0, 1, 2, 4, 5, 7, 8, 3}, at::kLong),
          .weight = normals({13}, random).abs(),
          .num_tokens = kPackedTokens};
}

class PackedFfnOf : public testing::TestWithParam<Activation> {
 protected:
  FfnTensors parameters(bool biases, bool float_down) {
    FfnTensors p = {.up = random_packed(kPackedWidth, kPackedHidden, random_),
                    .down = random_packed(kPackedHidden, kPackedWidth, random_)};
    const bool gated = GetParam() == Activation::swiglu || GetParam() == Activation::clamped_swiglu;
    if (gated) p.gate = random_packed(kPackedWidth, kPackedHidden, random_);
    if (float_down) p.down = unpacked(p.down);
    if (!biases) return p;
    p.up_bias = normals({kPackedExperts, kPackedWidth}, random_);
    p.down_bias = normals({kPackedExperts, kPackedHidden}, random_);
    if (gated) p.gate_bias = normals({kPackedExperts, kPackedWidth}, random_);
    return p;
  }
  RandomStream random_{5, "packed"};
};

TEST_P(PackedFfnOf, HasTheValuesAndGradientsOfTheGraphOfItsOperations) {
  for (const bool biases : {false, true}) {
    for (const bool float_down : {false, true}) {
      const FfnTensors p = parameters(biases, float_down);
      Assignment assignment = some_pairs(random_);
      const Tensor x = normals({kPackedTokens, kPackedHidden}, random_),
                   direction = normals(x.sizes(), random_);
      const auto run = [&](const auto& ffn) {
        const Tensor hidden = leaf(x), weight = assignment.weight = leaf(assignment.weight);
        const Tensor out = ffn(hidden);
        out.backward(direction);
        return std::vector<Tensor>{out.detach(), hidden.grad(), weight.grad()};
      };
      ASSERT_TRUE(packed_ffn_computes(x, p));
      const auto ours =
          run([&](const Tensor& hidden) { return packed_ffn(hidden, assignment, p, GetParam()); });
      const auto graph = run([&](const Tensor& hidden) {
        return expert_ffn_by_tensor_operations(hidden, assignment, p, GetParam());
      });
      EXPECT_TRUE(at::equal(ours[0], graph[0])) << "the same operations in the same order";
      for (size_t i = 1; i < 3; ++i) EXPECT_LT(difference(ours[i], graph[i]), 1e-4) << i;
      // Without a graph, and of the weights alone.
      const at::NoGradGuard no_grad;
      EXPECT_TRUE(at::equal(packed_ffn(x, assignment, p, GetParam()), ours[0]));
    }
  }
}

TEST_P(PackedFfnOf, NeedsNoGradientOfTheHiddenStates) {
  const FfnTensors p = parameters(true, false);
  Assignment assignment = some_pairs(random_);
  const Tensor weight = assignment.weight = leaf(assignment.weight);
  const Tensor x = normals({kPackedTokens, kPackedHidden}, random_);
  packed_ffn(x, assignment, p, GetParam()).sum().backward();
  const Tensor alone = weight.grad().clone();
  weight.mutable_grad() = Tensor();
  packed_ffn(leaf(x), assignment, p, GetParam()).sum().backward();
  EXPECT_TRUE(at::equal(alone, weight.grad()));
}

INSTANTIATE_TEST_SUITE_P(Activations, PackedFfnOf,
                         testing::Values(Activation::swiglu, Activation::gelu, Activation::relu,
                                         Activation::silu, Activation::clamped_swiglu));

TEST(PackedFfn, LeavesWhatLearnsToTheGraph) {
  RandomStream random(1, "packed");
  FfnTensors p = {.up = random_packed(kPackedWidth, kPackedHidden, random),
                  .down = leaf(normals({kPackedExperts, kPackedHidden, kPackedWidth}, random))};
  const Tensor x = normals({kPackedTokens, kPackedHidden}, random);
  EXPECT_FALSE(packed_ffn_computes(x, p));
  p.down = p.down.detach();
  EXPECT_TRUE(packed_ffn_computes(x, p));
  p.up = unpacked(p.up);
  EXPECT_FALSE(packed_ffn_computes(x, p)) << "nothing is packed";
}

}  // namespace
}  // namespace gatewright
