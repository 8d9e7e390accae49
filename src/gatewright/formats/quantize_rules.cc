#include "gatewright/formats/quantize_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"
#include "gatewright/base/words.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/formats/tensor_names.h"

namespace gatewright {
namespace {

using Tensors = std::map<std::string, TensorView>;

constexpr std::string_view kTypeNames =
    "f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q4_k_m, q5_k, q5_k_m, q6_k";

/// Comma-separated pieces; a comma inside braces or brackets belongs to a regular expression.
std::vector<std::string_view> pieces_of(std::string_view text) {
  std::vector<std::string_view> pieces;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    const char c = i < text.size() ? text[i] : ',';
    depth += c == '{' || c == '[' || c == '(' ? 1 : c == '}' || c == ']' || c == ')' ? -1 : 0;
    if (i < text.size() && (c != ',' || depth > 0)) continue;
    pieces.push_back(text.substr(begin, i - begin));
    begin = i + 1;
  }
  return pieces;
}

std::regex pattern_of(std::string_view text) {
  try {
    return std::regex(text.begin(), text.end());
  } catch (const std::regex_error&) {
    fail_usage(
        "--type: {} is no regular expression (\"ffn_.*_exps=q4_k\" is an example; * alone is everything)",
        Quoted{text});
  }
}

/// Matrices, or stacks of them, that may be packed without harm.
bool is_weight(const TensorView& tensor) {
  constexpr std::array<std::string_view, 6> kKept = {
      "_norm.weight",         "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight",
      "position_embd.weight", "token_types.weight",  "pos_embd.weight"};
  return tensor.name.ends_with("weight") &&
         std::ranges::none_of(kKept, [&](std::string_view end) { return tensor.name.ends_with(end); });
}

bool is_output(const TensorView& tensor, const Tensors& all) {
  return tensor.name == "output.weight" ||
         (tensor.name == "token_embd.weight" && !all.contains("output.weight"));
}

/// The layers to which the mixes "M" give more bits.
bool gets_more_bits(const TensorView& tensor, const Tensors& all) {
  const bool sensitive = tensor.name.find("attn_v.weight") != std::string::npos ||
                         tensor.name.find("ffn_down") != std::string::npos;
  const auto layer = gguf_layer(tensor.name);
  if (!sensitive || !layer) return false;
  int64_t layers = 0;
  for (const auto& [name, view] : all) layers = std::max(layers, gguf_layer(name).value_or(-1) + 1);
  const int64_t eighth = layers / 8;
  return *layer < eighth || *layer >= 7 * layers / 8 || (*layer - eighth) % 3 == 2;
}

bool fits(DataType type, int64_t row) { return row % block_elements(type) == 0; }

}  // namespace

DataType fitting_type(DataType type, int64_t row) {
  if (fits(type, row)) return type;
  const DataType second = type == DataType::kQ4_K   ? DataType::kQ5_0
                          : type == DataType::kQ5_K ? DataType::kQ5_1
                          : type == DataType::kQ6_K ? DataType::kQ8_0
                                                    : DataType::kF16;
  return fits(second, row) ? second : DataType::kF16;
}

QuantizeRules::QuantizeRules(std::string_view text) {
  for (const std::string_view piece : pieces_of(text)) {
    const size_t equals = piece.rfind('=');
    const std::string_view pattern = equals == std::string_view::npos ? "*" : piece.substr(0, equals);
    std::string name = lower_case(equals == std::string_view::npos ? piece : piece.substr(equals + 1));
    const bool mixed = name == "q4_k_m" || name == "q5_k_m";
    if (mixed || name == "q4_k_s" || name == "q5_k_s") name.resize(name.size() - 2);
    const std::optional<DataType> type = parse_data_type(name);
    if (!type || !can_pack(*type))
      fail_usage("--type: {} is none of the types that are written: {}", Quoted{piece}, kTypeNames);
    if (pattern.empty()) fail_usage("--type: {} has no pattern before =", Quoted{piece});
    rules_.push_back({pattern == "*" ? std::nullopt : std::optional(pattern_of(pattern)), *type, mixed});
  }
}

std::optional<DataType> QuantizeRules::wanted(const TensorView& tensor, const Tensors& all) const {
  for (const Rule& rule : rules_) {
    if (rule.pattern) {
      if (std::regex_search(tensor.name, *rule.pattern)) return rule.type;
      continue;
    }
    if (!is_weight(tensor)) return std::nullopt;
    const bool plain = !is_packed(rule.type) || rule.type == DataType::kQ8_0;
    if (is_output(tensor, all) && !plain) return DataType::kQ6_K;
    return rule.mixed && gets_more_bits(tensor, all) ? DataType::kQ6_K : rule.type;
  }
  return std::nullopt;
}

std::optional<QuantizeRules::Choice> QuantizeRules::choose(const TensorView& tensor,
                                                           const Tensors& all) const {
  if (tensor.shape.size() < 2 || tensor.shape.size() > 3) return std::nullopt;
  const bool is_float = is_packed(tensor.dtype) || tensor.dtype == DataType::kF32 ||
                        tensor.dtype == DataType::kF16 || tensor.dtype == DataType::kBF16 ||
                        tensor.dtype == DataType::kF64;
  const std::optional<DataType> type = is_float ? wanted(tensor, all) : std::nullopt;
  if (!type) return std::nullopt;
  const DataType fitting = fitting_type(*type, tensor.shape.back());
  return fitting == *type ? Choice{*type} : Choice{fitting, type};
}

std::optional<uint32_t> QuantizeRules::file_type() const {
  const auto it = std::ranges::find_if(rules_, [](const Rule& r) { return !r.pattern; });
  if (it == rules_.end() || (rules_.size() > 1 && !is_packed(it->type))) return std::nullopt;
  const std::optional<uint32_t> type = file_type_of(it->type);
  return type && it->mixed ? std::optional(*type + 1) : type;
}

std::optional<uint32_t> file_type_of(DataType type) {
  switch (type) {
    case DataType::kF32:
      return 0;
    case DataType::kF16:
      return 1;
    case DataType::kQ4_0:
      return 2;
    case DataType::kQ4_1:
      return 3;
    case DataType::kQ8_0:
      return 7;
    case DataType::kQ5_0:
      return 8;
    case DataType::kQ5_1:
      return 9;
    case DataType::kQ2_K:
      return 10;
    case DataType::kQ3_K:
      return 12;
    case DataType::kQ4_K:
      return 14;  // S, whose successor is M
    case DataType::kQ5_K:
      return 16;  // S
    case DataType::kQ6_K:
      return 18;
    case DataType::kIQ4_NL:
      return 25;
    case DataType::kBF16:
      return 32;
    case DataType::kMXFP4:
      return 38;
    default:
      return std::nullopt;
  }
}

}  // namespace gatewright
