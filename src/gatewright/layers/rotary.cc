#include "gatewright/layers/rotary.h"

#include <algorithm>
#include <span>

#include "gatewright/base/error.h"
#include "gatewright/kernels/cpu/rotary.h"

namespace gatewright {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// x [B, S, heads, D], the table and positions [B, S] contiguous on the CPU; halves.
struct CpuRotary : torch::autograd::Function<CpuRotary> {
  static Tensor turned(const Tensor& x, const Tensor& cosine, const Tensor& sine, const Tensor& positions,
                       float direction) {
    const Tensor out = at::empty_like(x);
    kernels::rotate_halves(x.size(0) * x.size(1), x.size(2), x.size(3), x.data_ptr<float>(),
                           cosine.data_ptr<float>(), sine.data_ptr<float>(), positions.data_ptr<int64_t>(),
                           direction, out.data_ptr<float>());
    return out;
  }

  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& cosine, const Tensor& sine,
                        const Tensor& positions) {
    context->save_for_backward({cosine, sine, positions});
    return turned(x, cosine, sine, positions, 1);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list in = context->get_saved_variables();
    return {turned(grads[0].contiguous(), in[0], in[1], in[2], -1), Tensor(), Tensor(), Tensor()};
  }
};

bool rotary_has_kernel(const Tensor& x, const RotaryTable& table, const Tensor& positions,
                       RotaryOrder order) {
  return order == RotaryOrder::kHalves && x.is_cpu() && x.scalar_type() == at::kFloat &&
         table.cosine.is_cpu() && table.cosine.is_contiguous() && table.sine.is_contiguous() &&
         positions.scalar_type() == at::kLong;
}

}  // namespace

RotaryTable make_rotary_table(int64_t positions, int64_t head_dim, double theta, at::Device device) {
  return make_rotary_table(positions, rotary_frequencies({.theta = theta}, head_dim, positions), device);
}

RotaryTable make_rotary_table(int64_t positions, const RotaryFrequencies& frequencies, at::Device device) {
  const auto options = at::TensorOptions(at::kDouble);
  const Tensor frequency = at::tensor(at::ArrayRef<double>(frequencies.frequency), options);
  const Tensor angle = at::arange(positions, options).unsqueeze(1) * frequency.unsqueeze(0);
  return {(angle.cos() * frequencies.magnitude).to(device, at::kFloat),
          (angle.sin() * frequencies.magnitude).to(device, at::kFloat)};
}

Tensor rotary(const Tensor& x, const RotaryTable& table, const Tensor& positions, RotaryOrder order) {
  require(x.dim() == 4 && x.size(3) == 2 * table.cosine.size(1),
          "[rotary] x must be [B, S, heads, {}] for this table, got a last axis of {}",
          2 * table.cosine.size(1), x.dim() > 0 ? x.size(-1) : 0);
  require(positions.dim() == 2 && positions.size(0) == x.size(0) && positions.size(1) == x.size(1),
          "[rotary] positions must be [{}, {}]", x.size(0), x.size(1));
  if (rotary_has_kernel(x, table, positions, order)) {
    const Tensor plain = positions.contiguous();
    const int64_t length = table.cosine.size(0);
    const std::span ids(plain.data_ptr<int64_t>(), static_cast<size_t>(plain.numel()));
    require(std::ranges::all_of(ids, [&](int64_t id) { return id >= 0 && id < length; }),
            "[rotary] positions must lie in 0..{}, the length of the table", length - 1);
    if (!at::GradMode::is_enabled())
      return CpuRotary::turned(x.contiguous(), table.cosine, table.sine, plain, 1);
    return CpuRotary::apply(x.contiguous(), table.cosine, table.sine, plain);
  }
  return rotary_by_tensor_operations(x, table, positions, order);
}

Tensor rotary_by_tensor_operations(const Tensor& x, const RotaryTable& table, const Tensor& positions,
                                   RotaryOrder order) {
  const auto type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto at_positions = [&](const Tensor& values) {
    return values.index_select(0, positions.reshape({-1}))
        .to(type)
        .view({x.size(0), x.size(1), 1, x.size(3) / 2});
  };
  const Tensor cosine = at_positions(table.cosine), sine = at_positions(table.sine);
  const bool halves = order == RotaryOrder::kHalves;
  const int64_t half = x.size(3) / 2;
  const Tensor pairs =
      x.to(type).reshape({x.size(0), x.size(1), x.size(2), halves ? 2 : half, halves ? half : 2});
  const int64_t axis = halves ? 3 : 4;
  const Tensor first = pairs.select(axis, 0), second = pairs.select(axis, 1);
  return at::stack({first * cosine - second * sine, second * cosine + first * sine}, axis)
      .reshape(x.sizes())
      .to(x.scalar_type());
}

}  // namespace gatewright
