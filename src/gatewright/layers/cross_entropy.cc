#include "gatewright/layers/cross_entropy.h"

#include "gatewright/base/error.h"
#include "gatewright/experts/packed_tensor.h"
#include "gatewright/kernels/cpu/cross_entropy.h"

namespace gatewright {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kTokens = 512;  // a block of logits: 16 MB for a vocabulary of 8,192

at::ScalarType loss_type(const Tensor& hidden) {
  return hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

void check(const Tensor& hidden, const Tensor& head, const Tensor& targets) {
  require(hidden.dim() == 2 && head.dim() == 2 && hidden.size(1) == input_width(head),
          "[cross entropy] hidden states [T, H] and a head [V, H] expected");
  require(targets.dim() == 1 && targets.size(0) == hidden.size(0) && targets.scalar_type() == at::kLong,
          "[cross entropy] {} targets of type int64 expected", hidden.size(0));
  require(targets.numel() == 0 ||
              (targets.max().item<int64_t>() < head.size(0) && targets.min().item<int64_t>() >= -1),
          "[cross entropy] targets must lie in 0..{}, or be -1 for none", head.size(0) - 1);
}

bool head_has_kernel(const Tensor& hidden, const Tensor& head) {
  return hidden.is_cpu() && hidden.scalar_type() == at::kFloat && !is_packed(head);
}

struct LossesAndGradients {
  Tensor losses;                  // [T]
  Tensor grad_hidden, grad_head;  // of the sum of the losses times a scale; undefined when not wanted
};

/// hidden [T, H] and head [V, H], contiguous float32 on the CPU.
LossesAndGradients by_kernel(const Tensor& hidden, const Tensor& head, const Tensor& targets, double scale,
                             bool wants_hidden, bool wants_head) {
  LossesAndGradients result = {.losses = at::empty({hidden.size(0)}, hidden.options()),
                               .grad_hidden = wants_hidden ? at::empty_like(hidden) : Tensor(),
                               .grad_head = wants_head ? at::empty_like(head) : Tensor()};
  kernels::linear_cross_entropy(
      {.tokens = hidden.size(0), .vocabulary = head.size(0), .hidden = hidden.size(1)},
      hidden.data_ptr<float>(), head.data_ptr<float>(), targets.data_ptr<int64_t>(),
      static_cast<float>(scale), result.losses.data_ptr<float>(),
      wants_hidden ? result.grad_hidden.data_ptr<float>() : nullptr,
      wants_head ? result.grad_head.data_ptr<float>() : nullptr);
  return result;
}

/// Turns logits [n, V] into the gradient of the sum of the losses times `scale`; returns the losses [n].
Tensor losses_and_gradient(Tensor& logits, const Tensor& targets, double scale) {
  const int64_t n = logits.size(0);
  const Tensor has = targets.ge(0).unsqueeze(1), column = targets.clamp_min(0).unsqueeze(1);
  const Tensor log_p = at::log_softmax(logits, 1);
  const Tensor losses = at::where(has, -log_p.gather(1, column), at::zeros({1, 1}, log_p.options()));
  const Tensor one = at::full({n, 1}, -1.0, log_p.options());
  logits = log_p.exp().scatter_add(1, column, one) * has.to(log_p.scalar_type()) * scale;
  return losses.squeeze(1);
}

LossesAndGradients by_tensor_operations(const Tensor& hidden, const Tensor& head, const Tensor& targets,
                                        double scale, bool wants_hidden, bool wants_head) {
  const auto wide = hidden.options().dtype(loss_type(hidden));
  LossesAndGradients result = {.losses = at::empty({hidden.size(0)}, wide),
                               .grad_hidden = wants_hidden ? at::empty_like(hidden) : Tensor(),
                               .grad_head = wants_head ? at::zeros_like(head, wide) : Tensor()};
  for (int64_t t = 0; t < hidden.size(0); t += kTokens) {
    const int64_t n = std::min(kTokens, hidden.size(0) - t);
    const Tensor x = hidden.narrow(0, t, n);
    Tensor logits = (is_packed(head) ? packed_product(x, head) : at::mm(x, head.t())).to(loss_type(hidden));
    result.losses.narrow(0, t, n).copy_(losses_and_gradient(logits, targets.narrow(0, t, n), scale));
    const Tensor gradient = logits.to(hidden.scalar_type());
    if (wants_hidden)
      result.grad_hidden.narrow(0, t, n).copy_(is_packed(head) ? transposed_packed_product(gradient, head)
                                                               : at::mm(gradient, head));
    if (wants_head) result.grad_head += at::mm(gradient.t(), x);
  }
  if (wants_head) result.grad_head = result.grad_head.to(head.scalar_type());
  return result;
}

LossesAndGradients compute(const Tensor& hidden, const Tensor& head, const Tensor& targets, double scale,
                           bool wants_hidden, bool wants_head) {
  const auto run = head_has_kernel(hidden, head) ? by_kernel : by_tensor_operations;
  return run(hidden, head, targets, scale, wants_hidden, wants_head);
}

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static Tensor forward(AutogradContext* context, const Tensor& hidden, const Tensor& head,
                        const Tensor& targets, bool wants_hidden, bool wants_head) {
    const double count = targets.ge(0).sum().item<double>(), scale = count > 0 ? 1 / count : 0;
    const LossesAndGradients result = compute(hidden, head, targets, scale, wants_hidden, wants_head);
    if (wants_hidden) context->saved_data["hidden"] = result.grad_hidden;
    if (wants_head) context->saved_data["head"] = result.grad_head;
    return (result.losses.sum(at::kDouble) * scale).to(loss_type(hidden));
  }

  /// The gradients are handed over, not copied: that of the head is as large as the head.
  static variable_list backward(AutogradContext* context, variable_list grads) {
    require(!context->saved_data.empty(), "[cross entropy] the gradients of one loss can be taken once");
    const bool as_it_is = grads[0].is_cpu() && grads[0].item<double>() == 1;
    const auto take = [&](const char* name) {
      const auto found = context->saved_data.find(name);
      if (found == context->saved_data.end()) return Tensor();
      Tensor gradient = found->second.toTensor();
      return as_it_is ? gradient : gradient.mul_(grads[0].to(gradient.scalar_type()));
    };
    const variable_list result = {take("hidden"), take("head"), Tensor(), Tensor(), Tensor()};
    context->saved_data.clear();
    return result;
  }
};

/// The head as the products take it.
Tensor prepared(const Tensor& head, const Tensor& hidden) {
  return is_packed(head) ? head : head.to(hidden.scalar_type()).contiguous();
}

}  // namespace

Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& head, const Tensor& targets) {
  check(hidden, head, targets);
  const bool grad = at::GradMode::is_enabled();
  return LinearCrossEntropy::apply(hidden.contiguous(), prepared(head, hidden), targets.contiguous(),
                                   grad && hidden.requires_grad(), grad && head.requires_grad());
}

Tensor token_losses(const Tensor& hidden, const Tensor& head, const Tensor& targets) {
  check(hidden, head, targets);
  const at::NoGradGuard no_grad;
  return compute(hidden.contiguous(), prepared(head, hidden), targets.contiguous(), 1.0, false, false)
      .losses.to(at::kFloat);
}

}  // namespace gatewright
