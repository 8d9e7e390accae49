// Any bytes are refused with an Error, or every tensor lies inside them, is unpacked whole, every value of
// the metadata is read by its type, and the whole has a size when it is written. The first byte says what the
// input is: a file as it stands, or instructions by which a nearly valid file is made.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/base/error.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/formats/gguf.h"
#include "gatewright/formats/gguf_claims.h"
#include "tests/formats/gguf_maker.h"
#include "tests/fuzz/input.h"

namespace gatewright {
namespace {

/// A number that is near what would be right, or far from it.
uint64_t number(Input& input, uint64_t right) {
  switch (input.byte() % 24) {
    case 0:
      return right + input.byte();
    case 1:
      return right - input.byte();
    case 2:
      return uint64_t{1} << input.byte() % 64;
    case 3:
      return ~uint64_t{0} - input.byte();
    case 4:
      return 0;
    default:
      return right;
  }
}

std::string name_of(Input& input) {
  constexpr std::string_view kNames[] = {
      "general.alignment", "general.architecture",  "a.block_count",        "a.expert_count",
      "split.count",       "tokenizer.ggml.tokens", "tokenizer.ggml.scores"};
  const uint8_t kind = input.byte();
  if (kind % 4 == 0) return std::string(kNames[kind / 4 % std::size(kNames)]);
  return "k" + std::to_string(kind);
}

std::string value_of(uint32_t type, Input& input) {
  if (type == 8) {
    const std::string_view text = input.bytes(input.byte() % 8);
    return raw(number(input, text.size())) + std::string(text);
  }
  std::string bytes(input.bytes(gguf_type_bytes(GgufType{type % 13})));
  bytes.resize(gguf_type_bytes(GgufType{type % 13}));
  return bytes;
}

std::string key_of(Input& input) {
  const std::string name = name_of(input);
  if (name == "general.alignment") return u32_key(name, static_cast<uint32_t>(number(input, 32)));
  if (name == "general.architecture") return text_key(name, "a");
  const uint32_t type = input.byte() % 14;
  if (input.byte() % 3) return raw_key(name, type, value_of(type, input));
  std::string values;
  const uint64_t count = input.byte() % 5;
  for (uint64_t i = 0; i < count; ++i) values += value_of(type, input);
  return array_key(name, type, number(input, count), values);
}

MadeGguf::Tensor tensor_of(Input& input, uint64_t at) {
  constexpr DataType kTypes[] = {DataType::kF32,  DataType::kF16,  DataType::kBF16,   DataType::kQ4_0,
                                 DataType::kQ4_1, DataType::kQ5_0, DataType::kQ5_1,   DataType::kQ8_0,
                                 DataType::kQ2_K, DataType::kQ3_K, DataType::kQ4_K,   DataType::kQ5_K,
                                 DataType::kQ6_K, DataType::kI64,  DataType::kIQ4_NL, DataType::kMXFP4};
  const DataType type = kTypes[input.byte() % std::size(kTypes)];
  constexpr std::string_view kSuffixes[] = {".w", ".ffn_up_exps.weight", ".attn_q.weight"};
  MadeGguf::Tensor tensor = {.name = "blk." + std::to_string(input.byte() % 8) +
                                     std::string(kSuffixes[input.byte() % std::size(kSuffixes)]),
                             .dimensions = {},
                             .type = static_cast<uint32_t>(number(input, *ggml_type_id(type)))};
  const auto row = static_cast<uint64_t>(block_elements(type)) * (1 + input.byte() % 2);
  uint64_t rows = 1;
  tensor.dimensions.push_back(number(input, row));
  for (uint8_t d = input.byte() % 4; d > 0; --d) {
    const uint64_t dimension = 1 + input.byte() % 3;
    rows *= dimension;
    tensor.dimensions.push_back(number(input, dimension));
  }
  const uint64_t bytes =
      rows * row / static_cast<uint64_t>(block_elements(type)) * static_cast<uint64_t>(block_bytes(type));
  tensor.data = input.bytes(static_cast<size_t>(bytes));
  tensor.data.resize(static_cast<size_t>(bytes), '\x2A');
  tensor.offset = number(input, at);
  return tensor;
}

std::string made_file(Input& input) {
  MadeGguf made;
  made.version = static_cast<uint32_t>(number(input, 3));
  for (uint8_t keys = input.byte() % 6; keys > 0; --keys) made.keys.push_back(key_of(input));
  uint64_t at = 0;
  for (uint8_t tensors = input.byte() % 5; tensors > 0; --tensors) {
    made.tensors.push_back(tensor_of(input, at));
    at += (made.tensors.back().data.size() + 31) / 32 * 32;
  }
  made.claimed_keys = number(input, made.keys.size());
  made.claimed_tensors = number(input, made.tensors.size());
  std::string file = made.bytes();
  if (input.byte() % 16 == 0) file.resize(file.size() - input.byte() % file.size());
  return file;
}

void check_metadata(const GgufMetadata& metadata) {
  for (const std::string& key : metadata.keys()) {
    const GgufValue& value = *metadata.find(key);
    const int scalars = value.flag().has_value() + value.integer().has_value() + value.number().has_value() +
                        value.text().has_value();
    if (scalars > 1 || (scalars > 0 && value.is_array())) std::abort();
    const auto texts = value.texts();
    if (texts && texts->size() != value.size()) std::abort();
    const int lists = value.flags().has_value() + value.integers().has_value() + value.numbers().has_value() +
                      texts.has_value();
    if (lists > 1) std::abort();
  }
}

void check_tensors(const Gguf& gguf, std::span<const std::byte> file) {
  if (gguf.order.size() != gguf.tensors.size()) std::abort();
  for (const std::string& name : gguf.order) {
    const TensorView& view = gguf.tensors.at(name);
    if (view.data.empty() || view.data.data() < file.data() ||
        view.data.data() + view.data.size() > file.data() + file.size())
      std::abort();
    // A copy of exactly the size, so that reading past it is seen.
    const std::vector<std::byte> bytes(view.data.begin(), view.data.end());
    std::vector<float> values(bytes.size() / static_cast<size_t>(block_bytes(view.dtype)) *
                              static_cast<size_t>(block_elements(view.dtype)));
    unpack(view.dtype, bytes, values);
  }
}

void run(Input input) {
  const std::string file = input.byte() % 4 == 0 ? std::string(input.rest()) : made_file(input);
  const auto bytes = std::as_bytes(std::span(file));
  try {
    const Gguf gguf = parse_gguf(bytes, "the input");
    check_metadata(gguf.metadata);
    check_tensors(gguf, bytes);
    disagreements(gguf.metadata, gguf.tensors);
    std::vector<TensorPlan> plans;
    for (const std::string& name : gguf.order) plans.push_back(plan_of(gguf.tensors.at(name)));
    if (gguf_size(gguf.metadata, plans) < 24) std::abort();
  } catch (const Error& error) {
    if (!std::string_view(error.what()).starts_with("the input")) std::abort();
  }
}

}  // namespace
}  // namespace gatewright

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  gatewright::run(gatewright::Input(data, size));
  return 0;
}
