// The wire format of protocol buffers, as far as reading needs it: fields one after the other, each checked
// against the bytes that are left.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

#include "gatewright/base/error.h"

namespace gatewright {

class ProtobufReader {
 public:
  /// Errors name `what`, which must outlive it.
  ProtobufReader(std::string_view bytes, std::string_view what) : bytes_(bytes), what_(what) {}

  enum class Wire { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
  struct Field {
    uint32_t number = 0;
    Wire wire = Wire::kVarint;
    uint64_t value = 0;      // of a number
    std::string_view bytes;  // of kBytes

    int64_t integer() const { return static_cast<int64_t>(value); }
    float real() const { return std::bit_cast<float>(static_cast<uint32_t>(value)); }
  };
  /// The next field, nothing at the end.
  std::optional<Field> next() {
    if (bytes_.empty()) return std::nullopt;
    const uint64_t key = varint();
    Field field{.number = static_cast<uint32_t>(key >> 3),
                .wire = static_cast<Wire>(key & 7),
                .value = 0,
                .bytes = {}};
    require(key >> 3 >= 1 && key >> 3 < (uint64_t{1} << 29), "{}: a field has the number {}", what_,
            key >> 3);
    switch (field.wire) {
      case Wire::kVarint:
        field.value = varint();
        return field;
      case Wire::kFixed64:
        field.value = fixed(8);
        return field;
      case Wire::kFixed32:
        field.value = fixed(4);
        return field;
      case Wire::kBytes:
        field.bytes = take(varint());
        return field;
    }
    fail("{}: a field has the wire type {}", what_, key & 7);
  }
  /// Fails unless the field has the wire type.
  void expect(const Field& field, Wire wire, std::string_view name) const {
    require(field.wire == wire, "{}: {} has the wire type {}, {} was expected", what_, name,
            static_cast<int>(field.wire), static_cast<int>(wire));
  }

 private:
  std::string_view take(uint64_t size) {
    require(size <= bytes_.size(), "{}: a field of {} bytes, where {} are left", what_, size, bytes_.size());
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }
  uint64_t fixed(size_t size) {
    uint64_t value = 0;
    const std::string_view taken = take(size);
    for (size_t i = 0; i < size; ++i) value |= uint64_t{static_cast<uint8_t>(taken[i])} << (8 * i);
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    fail("{}: a number of more than 64 bits", what_);
  }

  std::string_view bytes_, what_;
};

}  // namespace gatewright
