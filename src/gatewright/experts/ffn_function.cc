#include "gatewright/experts/ffn_function.h"

#include "gatewright/base/error.h"
#include "gatewright/experts/activation.h"
#include "gatewright/experts/cuda_ffn.h"
#include "gatewright/experts/packed_ffn.h"
#include "gatewright/experts/packed_tensor.h"
#include "gatewright/experts/product_observer.h"

namespace gatewright {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

bool ffn_has_kernel(const Tensor& hidden, const FfnTensors& p, Activation activation) {
  const bool device = hidden.is_cpu() || (kHasCudaKernels && hidden.is_cuda());
  return device && (hidden.scalar_type() == at::kFloat || hidden.scalar_type() == at::kBFloat16) &&
         activation != Activation::clamped_swiglu && !is_packed(p.gate) && !is_packed(p.up) &&
         !is_packed(p.down);
}

// What an expert does not have is an empty tensor inside the function: its inputs must all be tensors, so
// that their numbers are those of needs_input_grad.
Tensor or_empty(const Tensor& tensor, const Tensor& like) {
  return tensor.defined() ? tensor.to(like.scalar_type()).contiguous() : at::empty({0}, like.options());
}
const void* data_of(const Tensor& tensor) { return tensor.numel() > 0 ? tensor.data_ptr() : nullptr; }
void* mutable_data_of(Tensor& tensor) {
  return tensor.defined() && tensor.numel() > 0 ? tensor.data_ptr() : nullptr;
}

kernels::FfnWeights pointers(const FfnTensors& p) {
  return {.gate = data_of(p.gate),
          .up = data_of(p.up),
          .down = data_of(p.down),
          .gate_bias = data_of(p.gate_bias),
          .up_bias = data_of(p.up_bias),
          .down_bias = data_of(p.down_bias)};
}

/// Inputs in the order in which apply() takes them, and backward() returns their gradients.
enum Input {
  kHidden,
  kWeight,
  kGate,
  kUp,
  kDown,
  kGateBias,
  kUpBias,
  kDownBias,
  kExpertBegin,
  kToken,
  kSaved
};

struct KernelFfn : torch::autograd::Function<KernelFfn> {
  static kernels::FfnSizes sizes(const Tensor& hidden, const Tensor& up, int64_t activation) {
    return {.tokens = hidden.size(0),
            .hidden = hidden.size(1),
            .width = up.size(1),
            .experts = up.size(0),
            .activation = static_cast<Activation>(activation),
            .element =
                hidden.scalar_type() == at::kFloat ? kernels::Element::float32 : kernels::Element::bfloat16};
  }

  static kernels::FfnPairs pairs(const Tensor& expert_begin, const Tensor& token, const Tensor& weight) {
    return {expert_begin.data_ptr<int64_t>(), token.data_ptr<int64_t>(), weight.data_ptr<float>()};
  }

  static Tensor forward(AutogradContext* context, const Tensor& hidden, const Tensor& weight,
                        const Tensor& gate, const Tensor& up, const Tensor& down, const Tensor& gate_bias,
                        const Tensor& up_bias, const Tensor& down_bias, const Tensor& expert_begin,
                        const Tensor& token, int64_t activation, bool keep) {
    const kernels::FfnSizes s = sizes(hidden, up, activation);
    const kernels::FfnPairs p = pairs(expert_begin, token, weight);
    const kernels::FfnWeights weights = pointers({gate, up, down, gate_bias, up_bias, down_bias});
    Tensor out = at::empty_like(hidden), saved;
    if (hidden.is_cpu()) {
      saved = at::empty({keep ? kernels::ffn_saved_floats(s, p) : 0}, at::kFloat);
      kernels::ffn_forward(s, p, weights, hidden.data_ptr(), keep ? saved.data_ptr<float>() : nullptr,
                           out.data_ptr());
    } else if constexpr (kHasCudaKernels) {
      saved = ffn_forward_on_cuda(s, token.numel(), p, weights, hidden, keep, out);
    }
    context->save_for_backward(
        {hidden, weight, gate, up, down, gate_bias, up_bias, down_bias, expert_begin, token, saved});
    context->saved_data["activation"] = activation;
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list in = context->get_saved_variables();
    const kernels::FfnSizes s = sizes(in[kHidden], in[kUp], context->saved_data["activation"].toInt());
    const Tensor grad_out = grads[0].to(in[kHidden].scalar_type()).contiguous();
    variable_list result(12);
    const auto wanted = [&](int i) { return context->needs_input_grad(static_cast<size_t>(i)); };
    for (int i = kHidden; i <= kDownBias; ++i) {
      if (wanted(i) || i == kWeight)
        result[static_cast<size_t>(i)] = at::empty_like(in[static_cast<size_t>(i)]);
    }
    const kernels::FfnPairs p = pairs(in[kExpertBegin], in[kToken], in[kWeight]);
    const kernels::FfnWeights weights =
        pointers({in[kGate], in[kUp], in[kDown], in[kGateBias], in[kUpBias], in[kDownBias]});
    const kernels::FfnGradients gradients = {.gate = mutable_data_of(result[kGate]),
                                             .up = mutable_data_of(result[kUp]),
                                             .down = mutable_data_of(result[kDown]),
                                             .gate_bias = mutable_data_of(result[kGateBias]),
                                             .up_bias = mutable_data_of(result[kUpBias]),
                                             .down_bias = mutable_data_of(result[kDownBias])};
    const Tensor& saved = in[kSaved];
    if (grad_out.is_cpu()) {
      kernels::ffn_backward(s, p, weights, in[kHidden].data_ptr(),
                            saved.numel() > 0 ? saved.data_ptr<float>() : nullptr, grad_out.data_ptr(),
                            mutable_data_of(result[kHidden]), result[kWeight].data_ptr<float>(), gradients);
    } else if constexpr (kHasCudaKernels) {
      ffn_backward_on_cuda(s, in[kToken].numel(), p, weights, in[kHidden], saved, grad_out, result[kHidden],
                           result[kWeight], gradients);
    }
    return result;
  }
};

void check_shapes(const Tensor& hidden, int64_t tokens, int64_t experts, const FfnTensors& p) {
  require(hidden.dim() == 2 && hidden.size(0) == tokens,
          "[experts] hidden states of shape [{}, H] expected, got {} dimensions and {} rows", tokens,
          hidden.dim(), hidden.dim() > 0 ? hidden.size(0) : 0);
  require(
      p.up.dim() == 3 && p.up.size(0) == experts && input_width(p.up) == hidden.size(1),
      "[experts] parameters for {} experts and hidden size {} expected, got {} experts and hidden size {}",
      experts, hidden.size(1), p.up.size(0), input_width(p.up));
}
void check_shapes(const Tensor& hidden, const Assignment& assignment, const FfnTensors& p) {
  check_shapes(hidden, assignment.num_tokens, assignment.num_experts(), p);
}

/// Expert e of rows x, in plain tensor operations.
Tensor one_expert(const Tensor& x, const FfnTensors& parameters, int64_t e, Activation activation,
                  const std::function<Tensor(const Tensor&)>& after_activation, ProductObserver* observer) {
  const auto linear = [&](const Tensor& rows, const Tensor& weights, const Tensor& biases) {
    if (observer) observer->see(weights, e, rows);
    const Tensor product = is_packed(weights) ? packed_product(rows, weights, e)
                                              : at::mm(rows, weights[e].to(rows.scalar_type()).t());
    return biases.defined() ? product + biases[e].to(product.scalar_type()) : product;
  };
  const Tensor up = linear(x, parameters.up, parameters.up_bias);
  const Tensor gate = parameters.gate.defined() ? linear(x, parameters.gate, parameters.gate_bias) : Tensor();
  Tensor h = activated(activation, gate, up);
  if (after_activation) h = after_activation(h);
  return linear(h, parameters.down, parameters.down_bias);
}

}  // namespace

Tensor expert_ffn(const Tensor& hidden, const Assignment& assignment, const FfnTensors& parameters,
                  Activation activation, bool recompute, ProductObserver* observer) {
  check_shapes(hidden, assignment, parameters);
  if (!observer && packed_ffn_computes(hidden, parameters))
    return packed_ffn(hidden, assignment, parameters, activation);
  if (observer || !ffn_has_kernel(hidden, parameters, activation)) {
    return expert_ffn_by_tensor_operations(hidden, assignment, parameters, activation, {}, observer);
  }
  const bool keep = !recompute && at::GradMode::is_enabled();
  return KernelFfn::apply(hidden.contiguous(), assignment.weight.to(at::kFloat).contiguous(),
                          or_empty(parameters.gate, hidden), or_empty(parameters.up, hidden),
                          or_empty(parameters.down, hidden), or_empty(parameters.gate_bias, hidden),
                          or_empty(parameters.up_bias, hidden), or_empty(parameters.down_bias, hidden),
                          assignment.expert_begin.contiguous(), assignment.token.contiguous(),
                          static_cast<int64_t>(activation), keep);
}

Tensor expert_ffn_by_tensor_operations(const Tensor& hidden, const Assignment& assignment,
                                       const FfnTensors& parameters, Activation activation,
                                       const std::function<Tensor(const Tensor&)>& after_activation,
                                       ProductObserver* observer) {
  check_shapes(hidden, assignment, parameters);
  const Tensor begin = assignment.expert_begin.to(at::kCPU);
  const int64_t* first = begin.data_ptr<int64_t>();
  const Tensor rows = hidden.index_select(0, assignment.token);
  Tensor out = at::zeros_like(hidden);
  for (int64_t e = 0; e < assignment.num_experts(); ++e) {
    const int64_t count = first[e + 1] - first[e];
    if (count == 0) continue;
    const Tensor x = rows.narrow(0, first[e], count);
    const Tensor y = one_expert(x, parameters, e, activation, after_activation, observer);
    const Tensor weight = assignment.weight.narrow(0, first[e], count).to(y.scalar_type());
    out = out.index_add(0, assignment.token.narrow(0, first[e], count),
                        (y * weight.unsqueeze(1)).to(out.scalar_type()));
  }
  return out;
}

Tensor dense_ffn(const Tensor& hidden, const FfnTensors& parameters, Activation activation,
                 const Tensor& weight, bool recompute, ProductObserver* observer) {
  const auto stack_of_one = [](const Tensor& t) {
    return !t.defined() ? t : is_packed(t) ? stack_of_packed(t) : t.unsqueeze(0);
  };
  const FfnTensors stacks = {stack_of_one(parameters.gate),    stack_of_one(parameters.up),
                             stack_of_one(parameters.down),    stack_of_one(parameters.gate_bias),
                             stack_of_one(parameters.up_bias), stack_of_one(parameters.down_bias)};
  const int64_t tokens = hidden.size(0);
  if (observer || !ffn_has_kernel(hidden, stacks, activation)) {
    // Every token is the one expert's: nothing to gather.
    check_shapes(hidden, tokens, 1, stacks);
    const Tensor y = one_expert(hidden, stacks, 0, activation, {}, observer);
    return (weight.defined() ? y * weight.to(y.scalar_type()).unsqueeze(1) : y).to(hidden.scalar_type());
  }
  const auto ids = hidden.options().dtype(at::kLong);
  const Assignment all = {
      .expert_begin = at::arange(2, ids) * tokens,
      .token = at::arange(tokens, ids),
      .weight = weight.defined() ? weight : at::ones({tokens}, hidden.options().dtype(at::kFloat)),
      .num_tokens = tokens};
  return expert_ffn(hidden, all, stacks, activation, recompute, observer);
}

}  // namespace gatewright
