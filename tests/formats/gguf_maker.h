// GGUF files put together by hand, right or wrong in every place.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace gatewright {

template <typename T>
std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
inline std::string raw_floats(const std::vector<float>& values) {
  std::string bytes;
  for (const float v : values) bytes += raw(v);
  return bytes;
}
inline std::string raw_string(const std::string& text) { return raw(uint64_t{text.size()}) + text; }

/// One key with its type and the bytes of its value.
inline std::string raw_key(const std::string& key, uint32_t type, const std::string& value) {
  return raw_string(key) + raw(type) + value;
}
inline std::string text_key(const std::string& key, const std::string& text) {
  return raw_key(key, 8, raw_string(text));
}
inline std::string u32_key(const std::string& key, uint32_t value) { return raw_key(key, 4, raw(value)); }
inline std::string array_key(const std::string& key, uint32_t type, uint64_t count,
                             const std::string& values) {
  return raw_key(key, 9, raw(type) + raw(count) + values);
}

/// Everything that a file says, to be changed before it is put together.
struct MadeGguf {
  struct Tensor {
    std::string name;
    std::vector<uint64_t> dimensions;  // fastest first
    uint32_t type = 0;
    std::string data = {};
    uint64_t offset = kPlaced;
  };
  static constexpr uint64_t kPlaced = ~uint64_t{0};  // one after the other

  std::string magic = "GGUF";
  uint32_t version = 3;
  std::vector<std::string> keys = {};
  std::vector<Tensor> tensors = {};
  uint64_t alignment = 32;  // that tensors are placed by; a key says it when it is another
  uint64_t claimed_tensors = kPlaced, claimed_keys = kPlaced;

  std::string bytes() const {
    std::string infos, data;
    for (const Tensor& t : tensors) {
      infos += raw_string(t.name) + raw(static_cast<uint32_t>(t.dimensions.size()));
      for (const uint64_t d : t.dimensions) infos += raw(d);
      infos += raw(t.type) + raw(t.offset == kPlaced ? uint64_t{data.size()} : t.offset);
      data += t.data + std::string(padding(t.data.size()), '\0');
    }
    std::string out = magic + raw(version) +
                      raw(claimed_tensors == kPlaced ? uint64_t{tensors.size()} : claimed_tensors) +
                      raw(claimed_keys == kPlaced ? uint64_t{keys.size()} : claimed_keys);
    for (const std::string& key : keys) out += key;
    out += infos;
    return out + std::string(padding(out.size()), '\0') + data;
  }

 private:
  size_t padding(size_t size) const {
    return static_cast<size_t>((alignment - size % alignment) % alignment);
  }
};

/// Three keys and two tensors: a [2][3] of F32 and 64 values of Q8_0 in two rows.
inline MadeGguf small_gguf() {
  std::string floats;
  for (const float x : {0.0F, 1.0F, 2.0F, 3.0F, 4.0F, 5.0F}) floats += raw(x);
  const std::string block = raw(uint16_t{0x3C00}) + std::string(32, '\x02');  // 1.0 times 2
  return {.keys = {text_key("general.architecture", "strange"), u32_key("strange.block_count", 1),
                   array_key("tokenizer.ggml.tokens", 8, 2, raw_string("a") + raw_string(""))},
          .tensors = {{.name = "blk.0.b.weight", .dimensions = {3, 2}, .type = 0, .data = floats},
                      {.name = "blk.0.a.weight", .dimensions = {32, 2}, .type = 8, .data = block + block}}};
}

}  // namespace gatewright
