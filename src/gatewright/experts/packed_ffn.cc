#include "gatewright/experts/packed_ffn.h"

#include "gatewright/experts/activation.h"
#include "gatewright/experts/packed_tensor.h"

namespace gatewright {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// x W_e^T + b_e, into `to`.
void product(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t e, Tensor to) {
  if (is_packed(weight)) {
    to.copy_(packed_product(x, weight, e));
  } else {
    at::mm_out(to, x, weight[e].t());
  }
  if (bias.defined()) to.add_(bias[e]);
}

Tensor transposed_product(const Tensor& gradient, const Tensor& weight, int64_t e) {
  return is_packed(weight) ? transposed_packed_product(gradient, weight, e) : at::mm(gradient, weight[e]);
}

/// What both passes need besides what autograd keeps.
struct Experts {
  FfnTensors parameters;
  Activation activation;
  Tensor expert_begin, token;  // on the CPU

  /// Calls body(e, first, rows) for the experts that have pairs.
  template <typename Body>
  void for_each(const Body& body) const {
    const int64_t* begin = expert_begin.data_ptr<int64_t>();
    for (int64_t e = 0; e + 1 < expert_begin.size(0); ++e) {
      if (begin[e + 1] > begin[e]) body(e, begin[e], begin[e + 1] - begin[e]);
    }
  }
  bool gated() const { return parameters.gate.defined(); }
};

struct PackedFfn : torch::autograd::Function<PackedFfn> {
  static Tensor forward(AutogradContext* context, const Tensor& hidden, const Tensor& weight,
                        const std::shared_ptr<const Experts>& experts, bool keep) {
    const FfnTensors& p = experts->parameters;
    const int64_t width = input_width(p.down), kept = keep ? experts->token.size(0) : 0;
    const Tensor up = at::empty({kept, width}, hidden.options());
    const Tensor gate = at::empty({experts->gated() ? kept : 0, width}, hidden.options());
    const auto rows_of = [&](const Tensor& all, int64_t first, int64_t rows) {
      return keep ? all.narrow(0, first, rows) : at::empty({rows, width}, all.options());
    };
    Tensor out = at::zeros_like(hidden);
    experts->for_each([&](int64_t e, int64_t first, int64_t rows) {
      const Tensor token = experts->token.narrow(0, first, rows);
      const Tensor x = hidden.index_select(0, token), u = rows_of(up, first, rows);
      const Tensor g = experts->gated() ? rows_of(gate, first, rows) : Tensor();
      product(x, p.up, p.up_bias, e, u);
      if (g.defined()) product(x, p.gate, p.gate_bias, e, g);
      Tensor y = at::empty_like(x);
      product(activated(experts->activation, g, u), p.down, p.down_bias, e, y);
      out.index_add_(0, token, y.mul_(weight.narrow(0, first, rows).unsqueeze(1)));
    });
    if (keep) {
      context->save_for_backward({weight, up, gate});
      context->saved_data["experts"] = at::IValue::make_capsule(c10::make_intrusive<Holder>(experts));
    }
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &weight = saved[0], &up = saved[1], &gate = saved[2];
    const auto held = context->saved_data["experts"].toCapsule();
    const Experts& experts = *static_cast<const Holder&>(*held).experts;
    const FfnTensors& p = experts.parameters;
    const Tensor grad_out = grads[0].contiguous(), grad_weight = at::empty_like(weight);
    const bool wants_hidden = context->needs_input_grad(0);
    Tensor grad_hidden = wants_hidden ? at::zeros_like(grad_out) : Tensor();
    experts.for_each([&](int64_t e, int64_t first, int64_t rows) {
      const Tensor token = experts.token.narrow(0, first, rows),
                   w = weight.narrow(0, first, rows).unsqueeze(1);
      const Tensor grad_y = grad_out.index_select(0, token), grad_h = transposed_product(grad_y, p.down, e);
      Tensor u = up.narrow(0, first, rows).detach(), g, h;
      if (experts.gated()) g = gate.narrow(0, first, rows).detach();
      {
        const at::AutoGradMode differentiate(wants_hidden);
        if (wants_hidden) u.requires_grad_();
        if (wants_hidden && g.defined()) g.requires_grad_();
        h = activated(experts.activation, g, u);
      }
      Tensor of_weight = (grad_h * h.detach()).sum(1);
      if (p.down_bias.defined()) of_weight += at::mv(grad_y, p.down_bias[e]);
      grad_weight.narrow(0, first, rows).copy_(of_weight);
      if (!wants_hidden) return;
      variable_list inner = {u};
      if (g.defined()) inner.push_back(g);
      const variable_list slopes = torch::autograd::grad({h}, inner, {grad_h * w});
      Tensor grad_x = transposed_product(slopes[0], p.up, e);
      if (g.defined()) grad_x += transposed_product(slopes[1], p.gate, e);
      grad_hidden.index_add_(0, token, grad_x);
    });
    return {grad_hidden, grad_weight, Tensor(), Tensor()};
  }

 private:
  struct Holder : torch::CustomClassHolder {
    explicit Holder(std::shared_ptr<const Experts> e) : experts(std::move(e)) {}
    std::shared_ptr<const Experts> experts;
  };
};

}  // namespace

bool packed_ffn_computes(const Tensor& hidden, const FfnTensors& p) {
  if (!hidden.is_cpu() || hidden.scalar_type() != at::kFloat) return false;
  bool packed = false;
  for (const Tensor* t : {&p.gate, &p.up, &p.down, &p.gate_bias, &p.up_bias, &p.down_bias}) {
    if (!t->defined()) continue;
    packed = packed || is_packed(*t);
    if (t->requires_grad() || (!is_packed(*t) && t->scalar_type() != at::kFloat)) return false;
  }
  return packed;
}

Tensor packed_ffn(const Tensor& hidden, const Assignment& assignment, const FfnTensors& parameters,
                  Activation activation) {
  const auto experts =
      std::make_shared<const Experts>(Experts{.parameters = parameters,
                                              .activation = activation,
                                              .expert_begin = assignment.expert_begin.contiguous(),
                                              .token = assignment.token.contiguous()});
  return PackedFfn::apply(hidden.contiguous(), assignment.weight.to(at::kFloat).contiguous(), experts,
                          at::GradMode::is_enabled());
}

}  // namespace gatewright
