#include "gatewright/experts/union_ffn.h"

#include "gatewright/base/error.h"

namespace gatewright {

Tensor union_of_experts(const Tensor& score) { return (score != 0).any(0).nonzero().squeeze(-1); }

Tensor dense_silu_experts(const Tensor& x, const Tensor& score, const Tensor& up, const Tensor& down) {
  require(up.dim() == 3 && down.dim() == 3 && x.dim() == 2 && score.dim() == 2 &&
              score.size(1) == up.size(0) && x.size(0) == score.size(0) && up.size(2) == x.size(1) &&
              down.size(0) == up.size(0) && down.size(1) == x.size(1) && down.size(2) == up.size(1),
          "silu experts need x [T, d], score [T, E], up [E, f, d] and down [E, d, f]");
  const int64_t experts = up.size(0), width = up.size(1);
  if (experts == 0) return at::zeros_like(x);
  const Tensor inner = at::silu(x.mm(up.reshape({experts * width, -1}).t())).view({-1, experts, width});
  const Tensor scored = (inner * score.unsqueeze(-1)).reshape({-1, experts * width});
  return scored.mm(down.transpose(1, 2).reshape({experts * width, -1}));
}

Tensor union_silu_experts(const Tensor& x, const Tensor& score, const Tensor& up, const Tensor& down) {
  const Tensor used = union_of_experts(score);
  return dense_silu_experts(x, score.index_select(1, used), up.index_select(0, used),
                            down.index_select(0, used));
}

}  // namespace gatewright
