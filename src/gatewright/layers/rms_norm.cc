#include "gatewright/layers/rms_norm.h"

#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"

namespace gatewright {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kRowBlock = 64;  // rows whose weight gradients are summed together

struct CpuRmsNorm : torch::autograd::Function<CpuRmsNorm> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, double epsilon) {
    const int64_t size = x.size(-1), rows = x.numel() / std::max<int64_t>(size, 1);
    const Tensor out = at::empty_like(x), inverse = at::empty({rows}, x.options());
    const float *in = x.data_ptr<float>(), *w = weight.data_ptr<float>();
    float *to = out.data_ptr<float>(), *kept = inverse.data_ptr<float>();
    parallel_for(0, rows, 16, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        const float* row = in + r * size;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < size; ++i) sum += row[i] * row[i];
        kept[r] = 1.0f / std::sqrt(sum / static_cast<float>(size) + static_cast<float>(epsilon));
        for (int64_t i = 0; i < size; ++i) to[r * size + i] = row[i] * kept[r] * w[i];
      }
    });
    context->save_for_backward({x, weight, inverse});
    return out;
  }

  /// With n = x r: grad_x = r (g w - n mean(g w n)), grad_weight = sum of g n over the rows.
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list in = context->get_saved_variables();
    const Tensor grad = grads[0].contiguous(), grad_x = at::empty_like(in[0]);
    const int64_t size = in[0].size(-1), rows = in[2].numel(), blocks = (rows + kRowBlock - 1) / kRowBlock;
    const Tensor partial = at::zeros({blocks, size}, in[1].options());
    const float *x = in[0].data_ptr<float>(), *w = in[1].data_ptr<float>(),
                *inverse = in[2].data_ptr<float>();
    const float* g = grad.data_ptr<float>();
    float *dx = grad_x.data_ptr<float>(), *dw = partial.data_ptr<float>();
    parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t r = first * kRowBlock; r < std::min(rows, last * kRowBlock); ++r) {
        const float *xr = x + r * size, *gr = g + r * size;
        float *to = dx + r * size, *weights = dw + r / kRowBlock * size;
        const float s = inverse[r];
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < size; ++i) sum += gr[i] * w[i] * xr[i];
        const float mean = sum * s * s / static_cast<float>(size);
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) {
          to[i] = s * (gr[i] * w[i] - xr[i] * mean);
          weights[i] += gr[i] * xr[i] * s;
        }
      }
    });
    return {grad_x, partial.sum(0), Tensor()};
  }
};

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  require(x.dim() > 0 && weight.dim() == 1 && x.size(-1) == weight.size(0),
          "[rms_norm] a weight of {} values for rows of {} expected", x.dim() > 0 ? x.size(-1) : 0,
          weight.numel());
  const bool kernel = x.is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat;
  return kernel ? CpuRmsNorm::apply(x.contiguous(), weight.contiguous(), epsilon)
                : rms_norm_by_tensor_operations(x, weight, epsilon);
}

Tensor rms_norm_by_tensor_operations(const Tensor& x, const Tensor& weight, double epsilon) {
  const auto computed = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const Tensor wide = x.to(computed);
  const Tensor normal = wide * at::rsqrt(wide.square().mean(-1, true) + epsilon);
  return (normal * weight.to(computed)).to(x.scalar_type());
}

}  // namespace gatewright
