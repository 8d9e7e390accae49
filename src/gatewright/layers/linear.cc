#include "gatewright/layers/linear.h"

#include "gatewright/base/error.h"
#include "gatewright/experts/packed_tensor.h"
#include "gatewright/experts/product_observer.h"
#include "gatewright/kernels/cpu/gemm.h"

namespace gatewright {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kFewestRows = 16;  // with fewer, a matrix is read once either way and packing it costs more

/// rows [T, in] and weight [out, in], contiguous float32 on the CPU.
struct CpuLinear : torch::autograd::Function<CpuLinear> {
  static Tensor forward(AutogradContext* context, const Tensor& rows, const Tensor& weight) {
    const int64_t tokens = rows.size(0), in = rows.size(1), out = weight.size(0);
    const Tensor result = at::empty({tokens, out}, rows.options());
    kernels::gemm_nt(tokens, out, in, rows.data_ptr<float>(), in, weight.data_ptr<float>(), in,
                     result.data_ptr<float>(), out, false);
    context->save_for_backward({rows, weight});
    return result;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &rows = saved[0], &weight = saved[1], grad = grads[0].contiguous();
    const int64_t tokens = rows.size(0), in = rows.size(1), out = weight.size(0);
    Tensor grad_rows, grad_weight;
    if (context->needs_input_grad(0)) {
      grad_rows = at::empty_like(rows);
      kernels::gemm_nn(tokens, in, out, grad.data_ptr<float>(), out, weight.data_ptr<float>(), in,
                       grad_rows.data_ptr<float>(), in, false);
    }
    if (context->needs_input_grad(1)) {
      grad_weight = at::empty_like(weight);
      kernels::gemm_tn(out, in, tokens, grad.data_ptr<float>(), out, rows.data_ptr<float>(), in,
                       grad_weight.data_ptr<float>(), in, false);
    }
    return {grad_rows, grad_weight};
  }
};

bool linear_has_kernel(const Tensor& rows, const Tensor& weight) {
  return rows.is_cpu() && rows.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat &&
         rows.size(0) >= kFewestRows;
}

Tensor product_with_transposed(const Tensor& rows, const Tensor& weight) {
  if (is_packed(weight)) return packed_product(rows, weight);
  if (linear_has_kernel(rows, weight)) return CpuLinear::apply(rows.contiguous(), weight.contiguous());
  return at::mm(rows, weight.to(rows.scalar_type()).t());
}

}  // namespace

Tensor linear_layer(const Tensor& x, const Tensor& weight, const Tensor& bias, ProductObserver* observer) {
  require(x.dim() > 0 && weight.dim() == 2 && x.size(-1) == input_width(weight),
          "[linear] inputs of {} values do not fit a weight for {}", x.dim() > 0 ? x.size(-1) : 0,
          weight.dim() == 2 ? input_width(weight) : 0);
  const Tensor rows = x.reshape({-1, x.size(-1)});
  if (observer) observer->see(weight, 0, rows);
  Tensor product = product_with_transposed(rows, weight);
  if (bias.defined()) product = product + bias.to(x.scalar_type());
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  return product.view(shape);
}

Tensor embed_tokens(const Tensor& tokens, const Tensor& weight) {
  return is_packed(weight) ? packed_rows(tokens, weight) : at::embedding(weight, tokens);
}

}  // namespace gatewright
