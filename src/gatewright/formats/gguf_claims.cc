#include "gatewright/formats/gguf_claims.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "gatewright/formats/tensor_names.h"

namespace gatewright {
namespace {

using Tensors = std::map<std::string, TensorView>;
using Problems = std::vector<std::string>;

/// The integer at a key that is there.
std::optional<int64_t> integer(const GgufMetadata& metadata, const std::string& key) {
  const GgufValue* value = metadata.find(key);
  return value ? value->integer() : std::nullopt;
}

void check_layers(const GgufMetadata& metadata, const std::string& architecture, const Tensors& tensors,
                  Problems& problems) {
  int64_t layers = 0;
  for (const auto& [name, view] : tensors) layers = std::max(layers, gguf_layer(name).value_or(-1) + 1);
  const std::string key = architecture + ".block_count";
  const auto claimed = integer(metadata, key);
  if (claimed && layers > 0 && *claimed != layers)
    problems.push_back(fmt::format("{} is {}, but the tensors are of {} layers", key, *claimed, layers));
}

void check_experts(const GgufMetadata& metadata, const std::string& architecture, const Tensors& tensors,
                   Problems& problems) {
  int64_t most = 0;
  for (const auto& [name, view] : tensors)
    if (name.ends_with("_exps.weight") && view.shape.size() == 3) most = std::max(most, view.shape.front());
  const std::string key = architecture + ".expert_count";
  const auto claimed = integer(metadata, key);
  if (claimed && most > 0 && *claimed != most)
    problems.push_back(fmt::format("{} is {}, but the tensors hold {} experts", key, *claimed, most));
  const auto used = integer(metadata, architecture + ".expert_used_count");
  if (used && most > 0 && (*used < 1 || *used > most))
    problems.push_back(fmt::format("{}.expert_used_count is {} of {} experts", architecture, *used, most));
}

void check_heads(const GgufMetadata& metadata, const std::string& architecture, const Tensors& tensors,
                 Problems& problems) {
  const bool attends = std::ranges::any_of(tensors, [](const auto& t) {
    return t.first.ends_with(".attn_q.weight") || t.first.ends_with(".attn_qkv.weight");
  });
  const std::string key = architecture + ".attention.head_count";
  const auto claimed = integer(metadata, key);
  if (attends && claimed && *claimed < 1)
    problems.push_back(fmt::format("{} is {}, but there are attention weights", key, *claimed));
}

void check_tokenizer(const GgufMetadata& metadata, Problems& problems) {
  const GgufValue* tokens = metadata.find("tokenizer.ggml.tokens");
  const auto check = [&](const char* name, std::initializer_list<GgufType> types, bool one_a_token) {
    const std::string key = std::string("tokenizer.ggml.") + name;
    const GgufValue* value = metadata.find(key);
    if (!value) return;
    if (!value->is_array() || std::ranges::find(types, value->type()) == types.end())
      problems.push_back(fmt::format("{} is {}, which it can't be", key, value->described()));
    else if (one_a_token && tokens && value->size() != tokens->size())
      problems.push_back(fmt::format("{} has {} values for {} tokens", key, value->size(), tokens->size()));
  };
  check("tokens", {GgufType::kString}, false);
  check("merges", {GgufType::kString}, false);
  check("scores", {GgufType::kF32}, true);
  check("token_type", {GgufType::kI32, GgufType::kU32}, true);
}

}  // namespace

std::vector<std::string> disagreements(const GgufMetadata& metadata, const Tensors& tensors) {
  Problems problems;
  const GgufValue* architecture = metadata.find("general.architecture");
  const auto name = architecture ? architecture->text() : std::nullopt;
  if (architecture && !name) problems.push_back("general.architecture is no string");
  if (name) {
    check_layers(metadata, *name, tensors, problems);
    check_experts(metadata, *name, tensors, problems);
    check_heads(metadata, *name, tensors, problems);
  }
  check_tokenizer(metadata, problems);
  return problems;
}

}  // namespace gatewright
