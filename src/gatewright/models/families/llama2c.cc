#include <array>
#include <cstring>

#include "gatewright/base/checked.h"
#include "gatewright/base/file.h"
#include "gatewright/models/families/convert.h"
#include "gatewright/models/families/convert_output.h"
#include "gatewright/models/families/gguf_config.h"

namespace gatewright {
namespace {

constexpr size_t kHeaderBytes = 7 * sizeof(int32_t);

struct Header {
  int64_t hidden, width, layers, heads, kv_heads, vocabulary, positions;
  bool tied;
  int64_t head_dim() const { return hidden / heads; }
};

/// Nothing when the sizes can't be a model's.
std::optional<Header> read_header(std::span<const std::byte> bytes) {
  std::array<int32_t, 7> raw{};
  if (bytes.size() < kHeaderBytes) return std::nullopt;
  std::memcpy(raw.data(), bytes.data(), kHeaderBytes);
  // A negative vocabulary says that the head has weights of its own.
  const Header h{raw[0], raw[1], raw[2], raw[3], raw[4], std::abs(int64_t{raw[5]}), raw[6], raw[5] > 0};
  constexpr int64_t kLargest = 1 << 20;
  for (const int64_t size : {h.hidden, h.width, h.layers, h.heads, h.kv_heads, h.vocabulary, h.positions}) {
    if (size < 1 || size > kLargest) return std::nullopt;
  }
  const bool divides = h.hidden % h.heads == 0 && h.heads % h.kv_heads == 0 && h.head_dim() % 2 == 0;
  return divides && h.layers <= 1024 ? std::optional(h) : std::nullopt;
}

/// Cuts the weights in the file's order.
class Weights {
 public:
  explicit Weights(std::span<const std::byte> bytes) : bytes_(bytes.subspan(kHeaderBytes)) {}

  std::span<const std::byte> take(const std::vector<int64_t>& shape) {
    const auto size = static_cast<size_t>(checked_product(shape, "the weights")) * sizeof(float);
    require(size <= bytes_.size(), "the file ends in the middle of the weights");
    const auto taken = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return taken;
  }
  bool empty() const { return bytes_.empty(); }

 private:
  std::span<const std::byte> bytes_;
};

std::vector<TensorPlan> plans_of(const Header& h, std::span<const std::byte> bytes) {
  Weights weights(bytes);
  std::vector<TensorPlan> plans;
  const auto one = [&](const std::string& name, const std::vector<int64_t>& shape) {
    plans.push_back({.name = name, .shape = shape, .data = weights.take(shape)});
  };
  const auto of_layers = [&](const char* name, const std::vector<int64_t>& shape) {
    for (int64_t layer = 0; layer < h.layers; ++layer)
      one(fmt::format("blk.{}.{}.weight", layer, name), shape);
  };
  const int64_t kv = h.kv_heads * h.head_dim();
  one("token_embd.weight", {h.vocabulary, h.hidden});
  of_layers("attn_norm", {h.hidden});
  of_layers("attn_q", {h.hidden, h.hidden});
  of_layers("attn_k", {kv, h.hidden});
  of_layers("attn_v", {kv, h.hidden});
  of_layers("attn_output", {h.hidden, h.hidden});
  of_layers("ffn_norm", {h.hidden});
  of_layers("ffn_gate", {h.width, h.hidden});
  of_layers("ffn_down", {h.hidden, h.width});
  of_layers("ffn_up", {h.width, h.hidden});
  one("output_norm.weight", {h.hidden});
  weights.take({2, h.positions, h.head_dim() / 2});  // cosines and sines, which everyone computes
  if (!h.tied) one("output.weight", {h.vocabulary, h.hidden});
  require(weights.empty(), "the file has more bytes than its sizes need");
  return plans;
}

Architecture architecture_of(const Header& h) {
  Architecture a{.family = "llama",
                 .name = "",
                 .vocab_size = h.vocabulary,
                 .hidden_size = h.hidden,
                 .num_heads = h.heads,
                 .num_kv_heads = h.kv_heads,
                 .head_dim = h.head_dim(),
                 .max_positions = h.positions,
                 .rms_norm_eps = 1e-5,
                 .tie_word_embeddings = h.tied};
  a.layers.assign(static_cast<size_t>(h.layers), {.dense_width = h.width});
  return a;
}

/// tokenizer.bin: int32 largest length, then for each token float32 score, int32 length and its bytes.
void add_vocabulary(GgufMetadata& keys, const std::filesystem::path& path, int64_t size) {
  const std::string bytes = read_file(path, 64 << 20);
  size_t at = sizeof(int32_t);
  const auto take = [&](void* to, size_t count) {
    require(at <= bytes.size() && count <= bytes.size() - at, "{} ends in the middle of its tokens",
            path.string());
    std::memcpy(to, bytes.data() + at, count);
    at += count;
  };
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (int64_t id = 0; id < size; ++id) {
    float score = 0;
    int32_t length = 0;
    take(&score, sizeof score);
    take(&length, sizeof length);
    require(length >= 0 && static_cast<size_t>(length) <= bytes.size(), "{}: token {} has a length of {}",
            path.string(), id, length);
    std::string token(static_cast<size_t>(length), '\0');
    take(token.data(), token.size());
    // As SentencePiece has it: spaces are U+2581; 0 is unknown, 1 and 2 begin and end a text, 3 to 258 are
    // bytes.
    std::string shown;
    for (const char c : token) c == ' ' ? shown += "\xe2\x96\x81" : shown += c;
    const bool control = id == 1 || id == 2, byte = id >= 3 && id < 259;
    tokens.push_back(id == 0 ? "<unk>" : id == 1 ? "<s>" : id == 2 ? "</s>" : shown);
    types.push_back(id == 0 ? 2 : control ? 3 : byte ? 6 : 1);
    scores.push_back(score);
  }
  keys.set("tokenizer.ggml.model", "llama");
  keys.set("tokenizer.ggml.tokens", tokens);
  keys.set("tokenizer.ggml.scores", scores);
  keys.set("tokenizer.ggml.token_type", types);
  keys.set("tokenizer.ggml.bos_token_id", uint32_t{1});
  keys.set("tokenizer.ggml.eos_token_id", uint32_t{2});
  keys.set("tokenizer.ggml.unknown_token_id", uint32_t{0});
}

}  // namespace

bool is_llama2c(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path) || path.extension() != ".bin") return false;
  return read_header(MappedFile(path).bytes()).has_value();
}

ConvertReport convert_llama2c(const std::filesystem::path& in, const std::filesystem::path& tokenizer,
                              const std::filesystem::path& out, const ConvertOptions& options) {
  const MappedFile file(in);
  const std::optional<Header> header = read_header(file.bytes());
  require(header.has_value(), "{} is no checkpoint of llama2.c: its sizes can't be a model's", in.string());
  std::vector<TensorPlan> plans;
  try {
    plans = plans_of(*header, file.bytes());
  } catch (const Error& error) {
    fail("{} is no checkpoint of llama2.c: {}", in.string(), error.what());
  }
  GgufMetadata keys;
  Architecture architecture = architecture_of(*header);
  architecture.name = in.stem().string();
  set_architecture(keys, architecture);
  keys.set("general.file_type", uint32_t{0});
  if (tokenizer.empty())
    keys.set("tokenizer.ggml.model", "no_vocab");
  else
    add_vocabulary(keys, tokenizer, header->vocabulary);
  ConvertReport report;
  finish_gguf(out, keys, std::move(plans), options, report);
  return report;
}

}  // namespace gatewright
