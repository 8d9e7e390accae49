// The key-value part of a GGUF file: typed values in the order of the file, read by type or not at all.
#pragma once

#include <concepts>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gatewright {

/// Types of values, by their number in the format.
enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

/// "u32", "string", ...
std::string_view gguf_type_name(GgufType type);
/// Bytes of a value, 0 for strings and arrays.
uint64_t gguf_type_bytes(GgufType type);

template <typename T>
concept GgufNumber = std::integral<T> || std::same_as<T, float> || std::same_as<T, double>;

/// A value as it stands in a file: a scalar, a string, or an array of either. It keeps its type and its
/// bytes, so that what is read is written the same.
class GgufValue {
 public:
  /// The type stored is that of the argument: uint32_t{5} is a u32, 5 an i32, 1.0F an f32, true a bool.
  template <GgufNumber T>
  GgufValue(T value)
      : GgufValue(type_of<T>(), false, 1, std::string(reinterpret_cast<const char*>(&value), sizeof value)) {}
  GgufValue(std::string_view text);
  GgufValue(const std::string& text) : GgufValue(std::string_view(text)) {}
  GgufValue(const char* text) : GgufValue(std::string_view(text)) {}
  GgufValue(const std::vector<std::string>& texts);
  template <GgufNumber T>
  requires(!std::same_as<T, bool>) GgufValue(const std::vector<T>& values)
      : GgufValue(type_of<T>(), true, values.size(),
                  std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T))) {}

  /// A value that lies in bytes owned by `owner` (or by the caller when it is null): the bytes after the
  /// type, for arrays after the element type and the count.
  static GgufValue view(GgufType type, bool is_array, uint64_t size, std::string_view encoded,
                        std::shared_ptr<const void> owner);

  /// Of the value, for an array of its elements.
  GgufType type() const { return type_; }
  bool is_array() const { return is_array_; }
  /// Elements of an array, 1 for others.
  uint64_t size() const { return size_; }
  std::string_view encoded() const { return encoded_; }
  /// "u32", "array of 5 strings": for errors.
  std::string described() const;

  // Each gives nothing when the value is of another type (or an integer beyond int64); an array never stands
  // for a scalar.
  std::optional<bool> flag() const;
  std::optional<int64_t> integer() const;
  std::optional<double> number() const;  // f32 or f64
  std::optional<std::string> text() const;
  // An array, or one value where a scalar of that type stands.
  std::optional<std::vector<bool>> flags() const;
  std::optional<std::vector<int64_t>> integers() const;
  std::optional<std::vector<double>> numbers() const;
  std::optional<std::vector<std::string>> texts() const;

  /// Same type and same bytes.
  bool operator==(const GgufValue& other) const;

 private:
  GgufValue(GgufType type, bool is_array, uint64_t size, std::string_view encoded,
            std::shared_ptr<const void> owner);
  GgufValue(GgufType type, bool is_array, uint64_t size, const std::shared_ptr<const std::string>& encoded);
  GgufValue(GgufType type, bool is_array, uint64_t size, std::string encoded);
  template <typename T>
  static constexpr GgufType type_of() {
    if constexpr (std::same_as<T, bool>) return GgufType::kBool;
    if constexpr (std::same_as<T, float>) return GgufType::kF32;
    if constexpr (std::same_as<T, double>) return GgufType::kF64;
    if constexpr (sizeof(T) == 8) return std::is_signed_v<T> ? GgufType::kI64 : GgufType::kU64;
    if constexpr (sizeof(T) == 4) return std::is_signed_v<T> ? GgufType::kI32 : GgufType::kU32;
    if constexpr (sizeof(T) == 2) return std::is_signed_v<T> ? GgufType::kI16 : GgufType::kU16;
    return std::is_signed_v<T> ? GgufType::kI8 : GgufType::kU8;
  }

  GgufType type_;
  bool is_array_;
  uint64_t size_;
  std::shared_ptr<const void> owner_;
  std::string_view encoded_;
};

/// A length of eight bytes and the text, as GGUF writes every string.
void append_gguf_string(std::string& out, std::string_view text);

/// Keys and values. Readers fail, naming the file and the key, when the key is missing or of another type;
/// those that end in _or give `otherwise` when it is missing and fail when it is of another type.
class GgufMetadata {
 public:
  /// what: the file, for errors.
  explicit GgufMetadata(std::string what = "the metadata") : what_(std::move(what)) {}

  const std::string& what() const { return what_; }
  bool contains(std::string_view key) const { return values_.contains(key); }
  const GgufValue* find(std::string_view key) const;
  /// In the order of the file; keys that were set are last.
  const std::vector<std::string>& keys() const { return keys_; }

  bool flag(std::string_view key) const;
  bool flag_or(std::string_view key, bool otherwise) const;
  int64_t integer(std::string_view key) const;
  int64_t integer_or(std::string_view key, int64_t otherwise) const;
  double number(std::string_view key) const;
  double number_or(std::string_view key, double otherwise) const;
  std::string text(std::string_view key) const;
  std::string text_or(std::string_view key, std::string_view otherwise) const;
  /// An array, or the one value of a scalar (some keys may be given per layer or once).
  std::vector<bool> flags(std::string_view key) const;
  std::vector<int64_t> integers(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const;
  std::vector<std::string> texts(std::string_view key) const;

  /// A key that is there keeps its place.
  void set(std::string_view key, GgufValue value);
  /// Nothing happens when it is not there.
  void erase(std::string_view key);

 private:
  const GgufValue& at(std::string_view key) const;
  template <typename T>
  T wanted(std::string_view key, std::optional<T> (GgufValue::*read)() const, std::string_view type) const;

  std::string what_;
  std::vector<std::string> keys_;
  std::map<std::string, GgufValue, std::less<>> values_;
};

}  // namespace gatewright
