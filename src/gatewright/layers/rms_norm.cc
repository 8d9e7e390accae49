#include "gatewright/layers/rms_norm.h"

#include "gatewright/base/error.h"
#include "gatewright/kernels/cpu/rms_norm.h"

namespace gatewright {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

kernels::RmsNormSizes sizes_of(const Tensor& x, double epsilon) {
  const int64_t size = x.size(-1);
  return {
      .rows = x.numel() / std::max<int64_t>(size, 1), .size = size, .epsilon = static_cast<float>(epsilon)};
}

variable_list gradients(const Tensor& sum, const Tensor& weight, const Tensor& inverse,
                        const Tensor& grad_out, const Tensor& grad_sum) {
  const Tensor grad = grad_out.contiguous(), later = grad_sum.defined() ? grad_sum.contiguous() : Tensor();
  const Tensor grad_x = at::empty_like(sum), grad_weight = at::empty_like(weight);
  kernels::rms_norm_backward(sizes_of(sum, 0), sum.data_ptr<float>(), weight.data_ptr<float>(),
                             inverse.data_ptr<float>(), grad.data_ptr<float>(),
                             later.defined() ? later.data_ptr<float>() : nullptr, grad_x.data_ptr<float>(),
                             grad_weight.data_ptr<float>());
  return {grad_x, grad_weight};
}

struct Normed {
  Tensor sum, out, inverse;
};
/// Of x, or with delta of x + delta.
Normed normed(const Tensor& x, const Tensor& delta, const Tensor& weight, double epsilon) {
  const kernels::RmsNormSizes s = sizes_of(x, epsilon);
  const Normed n = {delta.defined() ? at::empty_like(x) : x, at::empty_like(x),
                    at::empty({s.rows}, x.options())};
  kernels::rms_norm_forward(s, x.data_ptr<float>(), delta.defined() ? delta.data_ptr<float>() : nullptr,
                            weight.data_ptr<float>(), delta.defined() ? n.sum.data_ptr<float>() : nullptr,
                            n.out.data_ptr<float>(), n.inverse.data_ptr<float>());
  return n;
}

struct CpuRmsNorm : torch::autograd::Function<CpuRmsNorm> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, double epsilon) {
    const Normed n = normed(x, Tensor(), weight, epsilon);
    context->save_for_backward({x, weight, n.inverse});
    return n.out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list in = context->get_saved_variables();
    const variable_list result = gradients(in[0], in[1], in[2], grads[0], Tensor());
    return {result[0], result[1], Tensor()};
  }
};

struct CpuAddRmsNorm : torch::autograd::Function<CpuAddRmsNorm> {
  static variable_list forward(AutogradContext* context, const Tensor& x, const Tensor& delta,
                               const Tensor& weight, double epsilon) {
    const Normed n = normed(x, delta, weight, epsilon);
    context->save_for_backward({n.sum, weight, n.inverse});
    return {n.sum, n.out};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list in = context->get_saved_variables();
    const variable_list result = gradients(in[0], in[1], in[2], grads[1], grads[0]);
    return {result[0], result[0], result[1], Tensor()};
  }
};

bool norm_has_kernel(const Tensor& x, const Tensor& weight) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat;
}

void check(const Tensor& x, const Tensor& weight) {
  require(x.dim() > 0 && weight.dim() == 1 && x.size(-1) == weight.size(0),
          "[rms_norm] a weight of {} values for rows of {} expected", x.dim() > 0 ? x.size(-1) : 0,
          weight.numel());
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  check(x, weight);
  if (!norm_has_kernel(x, weight)) return rms_norm_by_tensor_operations(x, weight, epsilon);
  if (!at::GradMode::is_enabled()) return normed(x.contiguous(), Tensor(), weight.contiguous(), epsilon).out;
  return CpuRmsNorm::apply(x.contiguous(), weight.contiguous(), epsilon);
}

SumAndNorm add_rms_norm(const Tensor& x, const Tensor& delta, const Tensor& weight, double epsilon) {
  check(x, weight);
  require(x.sizes() == delta.sizes(), "[rms_norm] two summands of one shape expected");
  if (!norm_has_kernel(x, weight) || delta.scalar_type() != at::kFloat) {
    const Tensor sum = x + delta;
    return {sum, rms_norm(sum, weight, epsilon)};
  }
  if (!at::GradMode::is_enabled()) {
    Normed n = normed(x.contiguous(), delta.contiguous(), weight.contiguous(), epsilon);
    return {std::move(n.sum), std::move(n.out)};
  }
  const variable_list result =
      CpuAddRmsNorm::apply(x.contiguous(), delta.contiguous(), weight.contiguous(), epsilon);
  return {result[0], result[1]};
}

Tensor rms_norm_by_tensor_operations(const Tensor& x, const Tensor& weight, double epsilon) {
  const auto computed = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const Tensor wide = x.to(computed);
  const Tensor normal = wide * at::rsqrt(wide.square().mean(-1, true) + epsilon);
  return (normal * weight.to(computed)).to(x.scalar_type());
}

}  // namespace gatewright
