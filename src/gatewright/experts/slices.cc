#include "gatewright/experts/slices.h"

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

/// [F, ...] -> [E, F / E, ...]
Tensor rows(const Tensor& t, int64_t experts) {
  if (!t.defined()) return t;
  std::vector<int64_t> shape = t.sizes().vec();
  shape[0] /= experts;
  shape.insert(shape.begin(), experts);
  return t.detach().reshape(shape).clone();
}

Tensor joined_rows(const Tensor& t) { return t.defined() ? t.detach().flatten(0, 1).clone() : t; }

}  // namespace

FfnTensors slice_ffn(const FfnTensors& dense, int64_t experts) {
  require(dense.up.defined() && dense.up.dim() == 2, "[slice_ffn] a dense feed-forward [F, H] was expected");
  const int64_t width = dense.up.size(0), hidden = dense.up.size(1);
  if (experts < 1 || width % experts != 0)
    fail_usage(
        "[slice_ffn] a width of {} cannot be cut into {} equal experts; choose a number that divides it",
        width, experts);
  const auto scale = static_cast<double>(experts);
  FfnTensors slices;
  slices.gate = rows(dense.gate, experts);
  slices.up = rows(dense.up, experts);
  slices.gate_bias = rows(dense.gate_bias, experts);
  slices.up_bias = rows(dense.up_bias, experts);
  slices.down =
      dense.down.detach().view({hidden, experts, width / experts}).permute({1, 0, 2}).contiguous() * scale;
  if (dense.down_bias.defined())
    slices.down_bias = dense.down_bias.detach().unsqueeze(0).expand({experts, hidden}).contiguous();
  return slices;
}

FfnTensors join_slices(const FfnTensors& slices) {
  require(slices.up.defined() && slices.up.dim() == 3,
          "[join_slices] stacked experts [E, F, H] were expected");
  const auto experts = static_cast<double>(slices.up.size(0));
  FfnTensors dense;
  dense.gate = joined_rows(slices.gate);
  dense.up = joined_rows(slices.up);
  dense.gate_bias = joined_rows(slices.gate_bias);
  dense.up_bias = joined_rows(slices.up_bias);
  dense.down = slices.down.detach().permute({1, 0, 2}).flatten(1) / experts;
  if (slices.down_bias.defined()) dense.down_bias = slices.down_bias.detach().mean(0);
  return dense;
}

}  // namespace gatewright
