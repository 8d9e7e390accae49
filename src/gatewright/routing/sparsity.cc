#include "gatewright/routing/sparsity.h"

#include "gatewright/base/error.h"

namespace gatewright {

Tensor activation_pattern(const Assignment& assignment) {
  const int64_t num_experts = assignment.num_experts();
  Tensor cells = at::zeros({assignment.num_tokens * num_experts},
                           at::TensorOptions().dtype(at::kBool).device(assignment.token.device()));
  return cells.index_fill(0, assignment.token * num_experts + expert_of_pairs(assignment), true)
      .view({assignment.num_tokens, num_experts});
}

double token_level_sparsity(const Tensor& active) { return chunk_level_sparsity(active, 1); }

double chunk_level_sparsity(const Tensor& active, int64_t chunk) {
  require(active.dim() == 2 && chunk >= 1 && active.size(0) >= chunk,
          "the sparsity of chunks of {} tokens needs at least as many, got {}", chunk,
          active.dim() == 2 ? active.size(0) : 0);
  const int64_t chunks = active.size(0) / chunk;
  const Tensor used = active.slice(0, 0, chunks * chunk).view({chunks, chunk, active.size(1)}).any(1);
  return 1 - used.to(at::kDouble).mean().item<double>();
}

}  // namespace gatewright
