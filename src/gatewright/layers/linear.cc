#include "gatewright/layers/linear.h"

#include "gatewright/base/error.h"

namespace gatewright {

Tensor linear_layer(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  require(x.dim() > 0 && weight.dim() == 2 && x.size(-1) == weight.size(1),
          "[linear] inputs of {} values do not fit a weight for {}", x.dim() > 0 ? x.size(-1) : 0,
          weight.dim() == 2 ? weight.size(1) : 0);
  const Tensor rows = x.reshape({-1, x.size(-1)});
  const Tensor matrix = weight.to(x.scalar_type()).t();
  const Tensor product =
      bias.defined() ? at::addmm(bias.to(x.scalar_type()), rows, matrix) : at::mm(rows, matrix);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  return product.view(shape);
}

Tensor embed_tokens(const Tensor& tokens, const Tensor& weight) { return at::embedding(weight, tokens); }

}  // namespace gatewright
