#include "gatewright/routing/scorers/patch.h"

#include <cmath>

#include "gatewright/base/error.h"

namespace gatewright {

Tensor flat_patches(const Tensor& x, int64_t patch_length) {
  require(x.dim() == 3, "[patch_linear] hidden states [B, S, d] were expected, got {} axes", x.dim());
  require(patch_length >= 1, "[patch_linear] patch_length must be at least 1, got {}", patch_length);
  const int64_t sequences = x.size(0), length = x.size(1), hidden = x.size(2);
  const int64_t patches = (length + patch_length - 1) / patch_length,
                missing = patches * patch_length - length;
  const Tensor filled =
      missing > 0 ? at::cat({x, at::zeros({sequences, missing, hidden}, x.options())}, 1) : x;
  return filled.reshape({sequences, patches, patch_length * hidden});
}

PatchScorer::PatchScorer(const RouterSizes& sizes, int64_t patch_length, RandomStream& random)
    : patch_length_(patch_length) {
  require(patch_length >= 1, "[patch_linear] patch_length must be at least 1, got {}", patch_length);
  const int64_t width = patch_length * sizes.hidden_size;
  const double bound = 1.0 / std::sqrt(static_cast<double>(width));
  weight_ = uniform_tensor({sizes.num_experts, width}, bound, random).set_requires_grad(true);
  bias_ = uniform_tensor({sizes.num_experts}, bound, random).set_requires_grad(true);
}

Tensor PatchScorer::logits(const Tensor& hidden, const RoutingContext& context) {
  require(hidden.size(1) * patch_length_ == weight_.size(1),
          "layer {}: the router reads hidden states of width {}, got {}", context.layer,
          weight_.size(1) / patch_length_, hidden.size(1));
  require(
      context.first_position == 0,
      "layer {}: the scorer patch_linear chooses for {} tokens together and can't continue a text token by "
      "token; give it whole texts, or take the scorer linear",
      context.layer, patch_length_);
  const int64_t sequences = context.num_sequences;
  require(sequences >= 1 && hidden.size(0) % sequences == 0,
          "layer {}: {} tokens are not {} sequences of equal length", context.layer, hidden.size(0),
          sequences);
  const int64_t length = hidden.size(0) / sequences, num_experts = weight_.size(0);
  if (length == 0) return at::zeros({0, num_experts}, hidden.options());
  const Tensor patches = flat_patches(hidden.reshape({sequences, length, hidden.size(1)}), patch_length_);
  const Tensor of_patches =
      at::addmm(bias_, patches.flatten(0, 1), weight_.t()).view({sequences, patches.size(1), 1, num_experts});
  return of_patches.expand({sequences, patches.size(1), patch_length_, num_experts})
      .reshape({sequences, patches.size(1) * patch_length_, num_experts})
      .narrow(1, 0, length)
      .reshape({sequences * length, num_experts});
}

void PatchScorer::collect(ParameterList& parameters, const std::string& prefix) const {
  parameters.push_back({.name = prefix + ".weight", .tensor = weight_});
  parameters.push_back({.name = prefix + ".bias", .tensor = bias_, .weight_decay = false});
}

}  // namespace gatewright
