#include "gatewright/layers/cross_entropy.h"

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"
#include "gatewright/kernels/cpu/gemm.h"
#include "gatewright/kernels/cpu/rows.h"

namespace gatewright {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kTokens = 512;  // a block of logits: 16 MB for a vocabulary of 8,192

at::ScalarType loss_type(const Tensor& hidden) {
  return hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

void check(const Tensor& hidden, const Tensor& head, const Tensor& targets) {
  require(hidden.dim() == 2 && head.dim() == 2 && hidden.size(1) == head.size(1),
          "[cross entropy] hidden states [T, H] and a head [V, H] expected");
  require(targets.dim() == 1 && targets.size(0) == hidden.size(0) && targets.scalar_type() == at::kLong,
          "[cross entropy] {} targets of type int64 expected", hidden.size(0));
  require(targets.numel() == 0 ||
              (targets.max().item<int64_t>() < head.size(0) && targets.min().item<int64_t>() >= -1),
          "[cross entropy] targets must lie in 0..{}, or be -1 for none", head.size(0) - 1);
}

/// Turns logits [n, V] into the gradient of the sum of the losses times `scale`; returns the losses [n].
Tensor losses_and_gradient(Tensor& logits, const Tensor& targets, double scale) {
  const int64_t n = logits.size(0), vocabulary = logits.size(1);
  if (logits.is_cpu() && logits.scalar_type() == at::kFloat && logits.is_contiguous()) {
    const Tensor losses = at::empty({n}, logits.options());
    float *rows = logits.data_ptr<float>(), *to = losses.data_ptr<float>();
    const int64_t* target = targets.data_ptr<int64_t>();
    parallel_for(0, n, 4, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        float* row = rows + i * vocabulary;
        if (target[i] < 0) {
          std::fill(row, row + vocabulary, 0.0f);
          to[i] = 0;
          continue;
        }
        const float logit = row[target[i]];
        to[i] = kernels::softmax_row(row, vocabulary, 1.0f) - logit;
        row[target[i]] -= 1.0f;
        for (int64_t v = 0; v < vocabulary; ++v) row[v] *= static_cast<float>(scale);
      }
    });
    return losses;
  }
  const Tensor has = targets.ge(0).unsqueeze(1), column = targets.clamp_min(0).unsqueeze(1);
  const Tensor log_p = at::log_softmax(logits, 1);
  const Tensor losses = at::where(has, -log_p.gather(1, column), at::zeros({1, 1}, log_p.options()));
  const Tensor one = at::full({n, 1}, -1.0, log_p.options());
  logits = log_p.exp().scatter_add(1, column, one) * has.to(log_p.scalar_type()) * scale;
  return losses.squeeze(1);
}

/// The three products of a block of n tokens, each spread over the threads by the rows or columns of its
/// result, so that no sum depends on their number. (2,048 tokens, 256 x 8,192, two cores, whole loss and
/// gradients: 145 ms; through OpenBLAS 225 with its AVX2 kernels, 129 with its AVX-512 ones.)
struct BlockProducts {
  int64_t tokens, vocabulary, size;
  static constexpr int64_t kGrain = 64;

  void logits(const float* x, const float* head, float* to) const {
    parallel_for(0, vocabulary, kGrain, [&](int64_t a, int64_t b) {
      kernels::gemm_nt(tokens, b - a, size, x, size, head + a * size, size, to + a, vocabulary, false);
    });
  }
  void grad_hidden(const float* gradient, const float* head, float* to) const {
    parallel_for(0, tokens, kGrain, [&](int64_t a, int64_t b) {
      kernels::gemm_nn(b - a, size, vocabulary, gradient + a * vocabulary, vocabulary, head, size,
                       to + a * size, size, false);
    });
  }
  void add_grad_head(const float* gradient, const float* x, float* to) const {
    parallel_for(0, vocabulary, kGrain, [&](int64_t a, int64_t b) {
      kernels::gemm_tn(b - a, size, tokens, gradient + a, vocabulary, x, size, to + a * size, size, true);
    });
  }
};

bool has_cpu_kernel(const Tensor& hidden) { return hidden.is_cpu() && hidden.scalar_type() == at::kFloat; }

/// x [n, H] contiguous, head [V, H] contiguous -> [n, V].
Tensor block_logits(const Tensor& x, const Tensor& head) {
  if (!has_cpu_kernel(x)) return at::mm(x, head.t()).to(loss_type(x));
  Tensor logits = at::empty({x.size(0), head.size(0)}, x.options());
  BlockProducts{x.size(0), head.size(0), x.size(1)}.logits(x.data_ptr<float>(), head.data_ptr<float>(),
                                                           logits.data_ptr<float>());
  return logits;
}

void block_grad_hidden(const Tensor& gradient, const Tensor& head, Tensor& to) {
  if (!has_cpu_kernel(gradient)) {
    at::mm_out(to, gradient, head);
    return;
  }
  BlockProducts{gradient.size(0), head.size(0), head.size(1)}.grad_hidden(
      gradient.data_ptr<float>(), head.data_ptr<float>(), to.data_ptr<float>());
}

void add_block_grad_head(const Tensor& gradient, const Tensor& x, Tensor& to) {
  if (has_cpu_kernel(gradient)) {
    BlockProducts{gradient.size(0), to.size(0), to.size(1)}.add_grad_head(
        gradient.data_ptr<float>(), x.data_ptr<float>(), to.data_ptr<float>());
  } else if (to.scalar_type() == gradient.scalar_type()) {
    to.addmm_(gradient.t(), x);
  } else {
    to += at::mm(gradient.t(), x);
  }
}

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static Tensor forward(AutogradContext* context, const Tensor& hidden, const Tensor& head,
                        const Tensor& targets, bool wants_hidden, bool wants_head) {
    const double count = targets.ge(0).sum().item<double>(), scale = count > 0 ? 1 / count : 0;
    Tensor total = at::zeros({}, hidden.options().dtype(at::kDouble));
    Tensor grad_hidden = wants_hidden ? at::empty_like(hidden) : Tensor();
    Tensor grad_head = wants_head ? at::zeros_like(head, head.options().dtype(loss_type(head))) : Tensor();
    for (int64_t t = 0; t < hidden.size(0); t += kTokens) {
      const int64_t n = std::min(kTokens, hidden.size(0) - t);
      const Tensor x = hidden.narrow(0, t, n);
      Tensor logits = block_logits(x, head);
      total += losses_and_gradient(logits, targets.narrow(0, t, n), scale).sum(at::kDouble);
      const Tensor gradient = logits.to(hidden.scalar_type());
      if (wants_hidden) {
        Tensor rows = grad_hidden.narrow(0, t, n);
        block_grad_hidden(gradient, head, rows);
      }
      if (wants_head) add_block_grad_head(gradient, x, grad_head);
    }
    if (wants_head) grad_head = grad_head.to(head.scalar_type());
    context->save_for_backward({grad_hidden, grad_head});
    return (total * scale).to(loss_type(hidden));
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list in = context->get_saved_variables();
    const auto scaled = [&](const Tensor& g) { return g.defined() ? (g * grads[0]).to(g.scalar_type()) : g; };
    return {scaled(in[0]), scaled(in[1]), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& head, const Tensor& targets) {
  check(hidden, head, targets);
  const Tensor matrix = head.to(hidden.scalar_type());
  const bool grad = at::GradMode::is_enabled();
  return LinearCrossEntropy::apply(hidden.contiguous(), matrix.contiguous(), targets.contiguous(),
                                   grad && hidden.requires_grad(), grad && head.requires_grad());
}

Tensor token_losses(const Tensor& hidden, const Tensor& head, const Tensor& targets) {
  check(hidden, head, targets);
  const at::NoGradGuard no_grad;
  const Tensor rows = hidden.contiguous(), to = targets.contiguous();
  const Tensor matrix = head.to(hidden.scalar_type()).contiguous();
  const Tensor losses = at::zeros({hidden.size(0)}, hidden.options().dtype(at::kFloat));
  for (int64_t t = 0; t < hidden.size(0); t += kTokens) {
    const int64_t n = std::min(kTokens, hidden.size(0) - t);
    Tensor logits = block_logits(rows.narrow(0, t, n), matrix);
    losses.narrow(0, t, n).copy_(losses_and_gradient(logits, to.narrow(0, t, n), 1.0));
  }
  return losses;
}

}  // namespace gatewright
