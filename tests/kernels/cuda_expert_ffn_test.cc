// The kernels of kernels/cuda, whose threads the CPU runs one after another (tests/kernels/cuda_on_cpu): what
// they compute needs no device to be checked, how fast they are does.
#include "gatewright/kernels/cuda/expert_ffn.cu"  // as C++

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "ffn_problem.h"

namespace gatewright::kernels {
namespace {

void compute_by_cuda_kernels(const FfnCall& call) {
  const auto floats = [](int64_t count) {
    return std::vector<float>(static_cast<size_t>(count), std::numeric_limits<float>::quiet_NaN());
  };
  auto saved = floats(cuda::ffn_saved_floats(call.sizes, call.num_pairs));
  auto forward = floats(cuda::ffn_forward_workspace(call.sizes, call.num_pairs));
  cuda::ffn_forward(call.sizes, call.num_pairs, call.pairs, call.weights, call.hidden, saved.data(),
                    forward.data(), call.out, nullptr);
  if (!call.keep) saved = floats(static_cast<int64_t>(saved.size()));
  auto backward = floats(cuda::ffn_backward_workspace(call.sizes, call.num_pairs));
  cuda::ffn_backward(call.sizes, call.num_pairs, call.pairs, call.weights, call.hidden, saved.data(),
                     !call.keep, call.grad_out, backward.data(), call.grad_hidden, call.grad_weight,
                     call.gradients, nullptr);
}

template <typename T>
using ByCudaKernels = Computed<T, compute_by_cuda_kernels>;

/// With both orders of a block's threads, which must not matter.
class CudaExpertFfn : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override { cuda_on_cpu::last_thread_first = GetParam(); }
  void TearDown() override { cuda_on_cpu::last_thread_first = false; }
};

TEST_P(CudaExpertFfn, AgreesWithThePlainReference) {
  for (const FfnCase& c : kFfnCases) {
    Problem p = make_problem(c.sizes, c.biases, c.share, 3);
    const ByCudaKernels<float> run(p, true);
    expect_forward(run, p, 2e-5);
    expect_gradients(run, p, 1e-4);
  }
}

TEST_P(CudaExpertFfn, AgreesWithThePlainReferenceInBfloat16) {
  for (const FfnCase& c : kFfnCases) {
    Problem p = make_problem(c.sizes, c.biases, c.share, 4);
    const ByCudaKernels<BFloat16> run(p, true);
    expect_forward(run, p, 0.01);  // a bfloat16 result has 8 bits
    expect_gradients(run, p, 0.01);
  }
}

TEST_P(CudaExpertFfn, RecomputedActivationsGiveTheSameGradientsBitForBit) {
  Problem p = make_problem(kFfnCases[1].sizes, true, 0.7, 5);
  const ByCudaKernels<float> kept(p, true), again(p, false);
  EXPECT_EQ(kept.grads, again.grads);
  EXPECT_EQ(kept.grad_weight, again.grad_weight);
}

TEST_P(CudaExpertFfn, WithoutPairsIsZero) {
  for (int64_t tokens : {0, 4}) {
    Problem p = make_problem({.tokens = tokens, .hidden = 8, .width = 4, .experts = 2}, true, 0.0, 8);
    const ByCudaKernels<float> run(p, true);
    EXPECT_TRUE(std::ranges::all_of(run.out, [](float v) { return v == 0; }));
    for (const auto& grad : run.grads) EXPECT_TRUE(std::ranges::all_of(grad, [](float v) { return v == 0; }));
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, CudaExpertFfn, testing::Bool(), [](const auto& last_first) {
  return last_first.param ? "LastFirst" : "FirstFirst";
});

}  // namespace
}  // namespace gatewright::kernels
