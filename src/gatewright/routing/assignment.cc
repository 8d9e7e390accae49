#include "gatewright/routing/assignment.h"

#include <cstring>

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

Tensor to_tensor(const std::vector<int64_t>& values, const at::Device& device) {
  Tensor result = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  if (!values.empty())
    std::memcpy(result.data_ptr<int64_t>(), values.data(), values.size() * sizeof(int64_t));
  return result.to(device);
}

std::vector<int64_t> to_vector(const Tensor& tensor) {
  const Tensor plain = tensor.to(at::kCPU).contiguous();
  return {plain.data_ptr<int64_t>(), plain.data_ptr<int64_t>() + plain.numel()};
}

}  // namespace

Assignment make_assignment_from_pair_weights(const choice::Pairs& pairs, Tensor weight) {
  require(weight.dim() == 1 && weight.size(0) == pairs.size(), "[assignment] {} weights for {} pairs",
          weight.numel(), pairs.size());
  const at::Device device = weight.device();
  return {.expert_begin = to_tensor(pairs.expert_begin, device),
          .token = to_tensor(pairs.token, device),
          .weight = std::move(weight),
          .num_tokens = pairs.num_tokens};
}

Assignment make_assignment(const choice::Pairs& pairs, const Tensor& token_weights) {
  require(token_weights.dim() == 2 && token_weights.size(0) == pairs.num_tokens &&
              token_weights.size(1) == pairs.num_experts(),
          "[assignment] weights of shape [{}, {}] expected", pairs.num_tokens, pairs.num_experts());
  const int64_t num_experts = pairs.num_experts();
  std::vector<int64_t> flat(pairs.token.size());
  for (int64_t e = 0; e < num_experts; ++e) {
    for (int64_t i = pairs.expert_begin[static_cast<size_t>(e)];
         i < pairs.expert_begin[static_cast<size_t>(e) + 1]; ++i) {
      flat[static_cast<size_t>(i)] = pairs.token[static_cast<size_t>(i)] * num_experts + e;
    }
  }
  Tensor weight = token_weights.reshape({-1}).index_select(0, to_tensor(flat, token_weights.device()));
  return make_assignment_from_pair_weights(pairs, std::move(weight));
}

Tensor expert_counts(const Assignment& assignment) { return assignment.expert_begin.diff().to(at::kFloat); }

Tensor expert_of_pairs(const Assignment& assignment) {
  const Tensor ids = at::arange(assignment.num_experts(), assignment.expert_begin.options());
  return ids.repeat_interleave(assignment.expert_begin.diff());
}

choice::Pairs to_pairs(const Assignment& assignment) {
  return {.num_tokens = assignment.num_tokens,
          .expert_begin = to_vector(assignment.expert_begin),
          .token = to_vector(assignment.token)};
}

void validate(const Assignment& assignment, std::string_view what) {
  choice::validate(to_pairs(assignment), what);
  require(assignment.weight.dim() == 1 && assignment.weight.size(0) == assignment.num_pairs(),
          "[{}] {} weights for {} pairs", what, assignment.weight.numel(), assignment.num_pairs());
  require(at::isfinite(assignment.weight.detach()).all().item<bool>(), "[{}] a weight is not finite", what);
}

}  // namespace gatewright
