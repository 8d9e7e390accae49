// Tiny models of every family with random weights, as a source that can be written, and their architecture.
#pragma once

#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "gatewright/base/random.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/models/families/model_source.h"

namespace gatewright {

/// Weights in float32, drawn for each tensor by its name. `metadata` may hold a vocabulary.
class RandomModel : public ModelSource {
 public:
  explicit RandomModel(Architecture architecture, GgufMetadata metadata = GgufMetadata())
      : architecture_(std::move(architecture)),
        tensors_(model_tensors(architecture_)),
        metadata_(std::move(metadata)) {
    for (const ModelTensor& t : tensors_) values_[t.name] = draw(t);
  }

  const Architecture& architecture() const override { return architecture_; }
  const std::vector<ModelTensor>& tensors() const override { return tensors_; }
  DataType type_of(const ModelTensor&) const override { return DataType::kF32; }
  std::span<const std::byte> rows(const ModelTensor& tensor, int64_t first, int64_t count,
                                  std::vector<std::byte>&) const override {
    return std::as_bytes(std::span(values_.at(tensor.name))
                             .subspan(static_cast<size_t>(first * tensor.columns()),
                                      static_cast<size_t>(count * tensor.columns())));
  }
  const GgufMetadata& metadata() const override { return metadata_; }
  const OrderedJson& config() const override { return config_; }
  std::filesystem::path folder() const override { return {}; }

  const std::vector<float>& values(const std::string& name) const { return values_.at(name); }
  bool has(const std::string& name) const { return values_.contains(name); }

 private:
  static std::vector<float> draw(const ModelTensor& t) {
    RandomStream random(7, t.name);
    const bool norm = t.name.find("norm") != std::string::npos;
    const bool vector = t.shape.size() == 1 || t.name.ends_with(".bias");
    const float scale = norm     ? 0.2F
                        : vector ? 0.3F
                        : t.name.find("embed") != std::string::npos
                            ? 1.0F
                            : 1.6F / std::sqrt(static_cast<float>(t.columns()));
    std::vector<float> values(static_cast<size_t>(t.rows() * t.columns()));
    for (float& x : values) x = (norm ? 1.0F : 0.0F) + scale * random.normal();
    return values;
  }

  Architecture architecture_;
  std::vector<ModelTensor> tensors_;
  std::map<std::string, std::vector<float>> values_;
  GgufMetadata metadata_;
  OrderedJson config_ = OrderedJson::object();
};

/// Three layers of hidden size 32 with the family's habits; routed families have 4 experts, 2 of them a
/// token.
inline Architecture tiny_architecture(const std::string& family) {
  const Family& habits = *find_family(family);
  Architecture a{.family = family,
                 .name = "tiny " + family,
                 .vocab_size = 64,
                 .hidden_size = 32,
                 .num_heads = 4,
                 .num_kv_heads = family == "olmoe" ? 4 : 2,
                 .head_dim = family == "qwen3_moe" || family == "qwen3" ? 16 : 8,
                 .max_positions = 256,
                 .rms_norm_eps = 1e-5,
                 .query_key_norm = habits.query_key_norm,
                 .query_key_value_bias = habits.query_key_value_bias};
  const bool routed = family.find("moe") != std::string::npos || family.starts_with("deepseek") ||
                      family == "mixtral" || family == "gpt_oss";
  RoutedSpec experts{.num_experts = 4, .top_k = 2, .width = 24, .renormalise = habits.renormalise};
  if (family == "qwen2_moe") experts.shared_width = 40, experts.shared_gate = true;
  if (family == "gpt_oss") {
    experts.softmax_chosen = experts.router_bias = experts.biases = true;
    a.output_bias = a.attention_sinks = a.clamped_swiglu = true;
    a.rotary = {.theta = 150000,
                .scaling = RotaryScaling::kYarn,
                .factor = 4,
                .original_positions = 16,
                .truncate = false};
  }
  if (family.starts_with("deepseek")) {
    a.latent = LatentAttentionSpec{.query_rank = family == "deepseek_v3" ? 20 : 0,
                                   .key_value_rank = 16,
                                   .nope_dim = 8,
                                   .rope_dim = 4,
                                   .value_dim = 6};
    a.num_kv_heads = a.num_heads;
    a.head_dim = 12;
    experts.num_experts = 8;
    experts.shared_width = 48;
    experts.scale = 1.5;
    experts.num_groups = 4;
    experts.groups_used = 2;
    experts.sigmoid = experts.selection_bias = family == "deepseek_v3";
    experts.group_by_best = family == "deepseek_v2";
    a.rotary = {.theta = 10000,
                .scaling = RotaryScaling::kYarn,
                .factor = 8,
                .original_positions = 16,
                .mscale = 0.7,
                .mscale_all_dim = 0.7};
  }
  for (int64_t i = 0; i < 3; ++i) {
    ArchitectureLayer layer{.dense_width = 48};
    const bool dense = !routed || (family.starts_with("deepseek") && i == 0);
    if (!dense) layer = {.dense_width = 0, .routed = experts};
    if (family == "gpt_oss" && i % 2 == 0) layer.window = 5;
    a.layers.push_back(layer);
  }
  return a;
}

/// With rows of whole blocks of 32.
inline Architecture architecture_of_blocks(const std::string& family) {
  Architecture a = tiny_architecture(family);
  for (ArchitectureLayer& layer : a.layers) {
    if (layer.routed) {
      layer.routed->width = 32;
      if (layer.routed->shared_width > 0) layer.routed->shared_width = 64;
    }
    if (!layer.routed) layer.dense_width = 64;
  }
  return a;
}

/// The matrices of a model in another type.
class PackedModel : public ModelSource {
 public:
  PackedModel(const RandomModel& model, DataType type) : model_(model), type_(type) {}
  const Architecture& architecture() const override { return model_.architecture(); }
  const std::vector<ModelTensor>& tensors() const override { return model_.tensors(); }
  DataType type_of(const ModelTensor& t) const override {
    const bool matrix = t.name.ends_with("_proj.weight") || t.name.find("embed") != std::string::npos;
    return matrix && t.columns() % block_elements(type_) == 0 ? type_ : DataType::kF32;
  }
  std::span<const std::byte> rows(const ModelTensor& t, int64_t first, int64_t count,
                                  std::vector<std::byte>& storage) const override {
    if (type_of(t) == DataType::kF32) return model_.rows(t, first, count, storage);
    const auto values =
        std::span(model_.values(t.name))
            .subspan(static_cast<size_t>(first * t.columns()), static_cast<size_t>(count * t.columns()));
    storage.resize(values.size() / static_cast<size_t>(block_elements(type_)) *
                   static_cast<size_t>(block_bytes(type_)));
    pack(type_, values, t.columns(), {}, storage);
    return storage;
  }
  const GgufMetadata& metadata() const override { return model_.metadata(); }
  const OrderedJson& config() const override { return model_.config(); }
  std::filesystem::path folder() const override { return {}; }

 private:
  const RandomModel& model_;
  DataType type_;
};

}  // namespace gatewright
