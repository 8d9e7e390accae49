#include "gatewright/models/families/gguf_rotary.h"

#include <algorithm>
#include <cstring>

#include "gatewright/base/quoted.h"

namespace gatewright {
namespace {

using Tensors = std::map<std::string, TensorView>;

std::vector<float> floats_of(const TensorView& tensor, const std::string& what) {
  require(tensor.dtype == DataType::kF32 && tensor.shape.size() == 1, "{}: {} must be a list of F32 values",
          what, Quoted{tensor.name});
  std::vector<float> values(tensor.data.size() / sizeof(float));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

std::vector<double> factors_of(const Tensors& tensors, const char* name, const std::string& what) {
  const auto it = tensors.find(name);
  if (it == tensors.end()) return {};
  const std::vector<float> values = floats_of(it->second, what);
  return {values.begin(), values.end()};
}

/// The Llama-3 rule that the list of divisors came from, with the published frequency factors and an original
/// context of a power of two, so that config.json can tell it. Another list stays a list.
void recognise_llama3(RotarySpec& rotary, int64_t width, const std::string& what) {
  for (const float d : rotary.divisors)
    require(std::isfinite(d) && d > 0, "{}: rope_freqs.weight holds {}, positive numbers are needed", what,
            d);
  RotarySpec rule = rotary;
  rule.divisors.clear();
  rule.factor = *std::ranges::max_element(rotary.divisors);
  for (rule.original_positions = 16; rule.original_positions <= 1 << 24; rule.original_positions *= 2) {
    const std::vector<float> expected = llama3_divisors(rule, width);
    const bool same = std::ranges::equal(
        expected, rotary.divisors, [](float a, float b) { return std::abs(a - b) <= 1e-4F * std::abs(b); });
    if (!same) continue;
    rotary = rule;
    rotary.divisors = expected;
    return;
  }
}

/// What cosine and sine are multiplied by when no key says otherwise.
double magnitude_by_rule(RotarySpec rotary, int64_t width) {
  rotary.attention_factor = 0;
  if (rotary.mscale_all_dim > 0) rotary.mscale = rotary.mscale_all_dim;  // GGUF has a key for one of them
  return rotary_frequencies(rotary, width, 1).magnitude;
}

/// `attn_factor` of GGUF: under LongRoPE the whole magnitude, under YaRN a factor on top of the rule's.
void read_magnitude(RotarySpec& rotary, double attn_factor, int64_t width) {
  const bool yarn = rotary.scaling == RotaryScaling::kYarn;
  if (attn_factor <= 0 || (!yarn && rotary.scaling != RotaryScaling::kLongRope)) return;
  const double rule = magnitude_by_rule(rotary, width), told = yarn ? attn_factor * rule : attn_factor;
  if (static_cast<float>(told) != static_cast<float>(rule)) rotary.attention_factor = told;
}

/// The inverse of read_magnitude. llama.cpp has no rule for LongRoPE, so there the key always stands.
void set_magnitude(GgufMetadata& keys, const std::string& p, const RotarySpec& rotary, int64_t width) {
  if (rotary.scaling == RotaryScaling::kLinear) return;
  const double magnitude = rotary_frequencies(rotary, width, 1).magnitude;
  const double rule = rotary.scaling == RotaryScaling::kYarn ? magnitude_by_rule(rotary, width) : 1;
  if (rotary.scaling == RotaryScaling::kLongRope || std::abs(magnitude / rule - 1) > 1e-7)
    set_number(keys, p + "rope.scaling.attn_factor", magnitude / rule);
}

}  // namespace

RotarySpec rotary_from_gguf(const GgufKeys& k, const Tensors& tensors, int64_t width) {
  RotarySpec rotary{.theta = k.number_or("rope.freq_base", 10000.0)};
  const std::string& what = k.metadata.what();
  const std::string type = k.metadata.text_or(k.key("rope.scaling.type"), "none");
  rotary.factor = k.number_or("rope.scaling.factor", 1);
  if (rotary.factor == 0) rotary.factor = 1;  // llama.cpp's own writer means none
  rotary.original_positions = k.size_or("rope.scaling.original_context_length", 0);
  if (type == "linear") {
    rotary.scaling = RotaryScaling::kLinear;
  } else if (type == "yarn") {
    rotary.scaling = RotaryScaling::kYarn;
    rotary.mscale = rotary.mscale_all_dim = 10 * k.number_or("rope.scaling.yarn_log_multiplier", 0);
    rotary.truncate = k.prefix != "gpt-oss.";
    rotary.beta_fast = k.number_or("rope.scaling.yarn_beta_fast", rotary.beta_fast);
    rotary.beta_slow = k.number_or("rope.scaling.yarn_beta_slow", rotary.beta_slow);
  } else {
    require(type == "none" || type == "longrope", "{}: rotary scaling {} is not known here", what,
            Quoted{type});
  }
  rotary.long_factors = factors_of(tensors, "rope_factors_long.weight", what);
  rotary.short_factors = factors_of(tensors, "rope_factors_short.weight", what);
  if (!rotary.long_factors.empty()) {
    rotary.scaling = RotaryScaling::kLongRope;
    rotary.factor = static_cast<double>(k.size("context_length")) /
                    static_cast<double>(std::max<int64_t>(rotary.original_positions, 1));
  }
  if (const auto it = tensors.find("rope_freqs.weight"); it != tensors.end()) {
    rotary.scaling = RotaryScaling::kLlama3;
    rotary.divisors = floats_of(it->second, what);
    recognise_llama3(rotary, width, what);
  }
  read_magnitude(rotary, k.number_or("rope.scaling.attn_factor", 0), width);
  return rotary;
}

void set_rotary(GgufMetadata& keys, const std::string& p, const RotarySpec& r, int64_t width) {
  set_size(keys, p + "rope.dimension_count", width);
  set_number(keys, p + "rope.freq_base", r.theta);
  if (r.scaling == RotaryScaling::kNone || r.scaling == RotaryScaling::kLlama3) return;
  keys.set(p + "rope.scaling.type", std::string(rotary_scaling_name(r.scaling)));
  // LongRoPE has a factor for each pair, and llama.cpp would apply this one, too.
  if (r.scaling != RotaryScaling::kLongRope) set_number(keys, p + "rope.scaling.factor", r.factor);
  if (r.original_positions > 0)
    set_size(keys, p + "rope.scaling.original_context_length", r.original_positions);
  set_magnitude(keys, p, r, width);
  if (r.scaling == RotaryScaling::kYarn && (r.beta_fast != 32 || r.beta_slow != 1)) {
    set_number(keys, p + "rope.scaling.yarn_beta_fast", r.beta_fast);
    set_number(keys, p + "rope.scaling.yarn_beta_slow", r.beta_slow);
  }
  if (r.mscale_all_dim > 0) set_number(keys, p + "rope.scaling.yarn_log_multiplier", 0.1 * r.mscale_all_dim);
}

}  // namespace gatewright
