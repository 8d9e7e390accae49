#include "gatewright/formats/gguf_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"

namespace gatewright {
namespace {

struct TypeInfo {
  std::string_view name;
  uint64_t bytes;
};
/// By the number of the type.
constexpr TypeInfo kTypes[] = {{"u8", 1},  {"i8", 1},  {"u16", 2},  {"i16", 2},    {"u32", 4},
                               {"i32", 4}, {"f32", 4}, {"bool", 1}, {"string", 0}, {"array", 0},
                               {"u64", 8}, {"i64", 8}, {"f64", 8}};

template <typename T>
T load(std::string_view bytes, uint64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

std::optional<int64_t> integer_at(GgufType type, std::string_view bytes, uint64_t i) {
  switch (type) {
    case GgufType::kU8:
      return load<uint8_t>(bytes, i);
    case GgufType::kI8:
      return load<int8_t>(bytes, i);
    case GgufType::kU16:
      return load<uint16_t>(bytes, i);
    case GgufType::kI16:
      return load<int16_t>(bytes, i);
    case GgufType::kU32:
      return load<uint32_t>(bytes, i);
    case GgufType::kI32:
      return load<int32_t>(bytes, i);
    case GgufType::kI64:
      return load<int64_t>(bytes, i);
    case GgufType::kU64: {
      const auto value = load<uint64_t>(bytes, i);
      if (std::in_range<int64_t>(value)) return static_cast<int64_t>(value);
      return std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> number_at(GgufType type, std::string_view bytes, uint64_t i) {
  if (type == GgufType::kF32) return load<float>(bytes, i);
  if (type == GgufType::kF64) return load<double>(bytes, i);
  return std::nullopt;
}

std::optional<bool> flag_at(GgufType type, std::string_view bytes, uint64_t i) {
  if (type != GgufType::kBool || static_cast<uint8_t>(bytes[i]) > 1) return std::nullopt;
  return bytes[i] == 1;
}

/// Takes a string off the front: u64 length and bytes, which were checked when the file was read.
std::string_view take_string(std::string_view& bytes) {
  const auto length = static_cast<size_t>(load<uint64_t>(bytes, 0));
  const std::string_view text = bytes.substr(sizeof(uint64_t), length);
  bytes.remove_prefix(sizeof(uint64_t) + length);
  return text;
}

std::string encoded_strings(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts) append_gguf_string(out, text);
  return out;
}

std::string encoded_string(std::string_view text) {
  std::string out;
  append_gguf_string(out, text);
  return out;
}

/// All values by a reader of one, or nothing when one is not of the type.
template <typename T, typename Read>
std::optional<std::vector<T>> all(uint64_t size, const Read& read) {
  std::vector<T> values(static_cast<size_t>(size));
  for (size_t i = 0; i < values.size(); ++i) {
    const std::optional<T> value = read(i);
    if (!value) return std::nullopt;
    values[i] = *value;
  }
  return values;
}

}  // namespace

void append_gguf_string(std::string& out, std::string_view text) {
  const uint64_t length = text.size();
  out.append(reinterpret_cast<const char*>(&length), sizeof length);
  out.append(text);
}

std::string_view gguf_type_name(GgufType type) { return kTypes[static_cast<size_t>(type)].name; }
uint64_t gguf_type_bytes(GgufType type) { return kTypes[static_cast<size_t>(type)].bytes; }

GgufValue::GgufValue(GgufType type, bool is_array, uint64_t size, std::string_view encoded,
                     std::shared_ptr<const void> owner)
    : type_(type), is_array_(is_array), size_(size), owner_(std::move(owner)), encoded_(encoded) {}

GgufValue::GgufValue(GgufType type, bool is_array, uint64_t size, std::string encoded)
    : GgufValue(type, is_array, size, std::make_shared<const std::string>(std::move(encoded))) {}

GgufValue::GgufValue(GgufType type, bool is_array, uint64_t size,
                     const std::shared_ptr<const std::string>& encoded)
    : GgufValue(type, is_array, size, std::string_view(*encoded), encoded) {}

GgufValue::GgufValue(std::string_view text) : GgufValue(GgufType::kString, false, 1, encoded_string(text)) {}

GgufValue::GgufValue(const std::vector<std::string>& texts)
    : GgufValue(GgufType::kString, true, texts.size(), encoded_strings(texts)) {}

GgufValue GgufValue::view(GgufType type, bool is_array, uint64_t size, std::string_view encoded,
                          std::shared_ptr<const void> owner) {
  return GgufValue(type, is_array, size, encoded, std::move(owner));
}

std::string GgufValue::described() const {
  if (is_array_) return fmt::format("array of {} values of type {}", size_, gguf_type_name(type_));
  return std::string(gguf_type_name(type_));
}

std::optional<bool> GgufValue::flag() const { return is_array_ ? std::nullopt : flag_at(type_, encoded_, 0); }
std::optional<int64_t> GgufValue::integer() const {
  return is_array_ ? std::nullopt : integer_at(type_, encoded_, 0);
}
std::optional<double> GgufValue::number() const {
  return is_array_ ? std::nullopt : number_at(type_, encoded_, 0);
}
std::optional<std::string> GgufValue::text() const {
  if (is_array_ || type_ != GgufType::kString) return std::nullopt;
  std::string_view rest = encoded_;
  return std::string(take_string(rest));
}

std::optional<std::vector<bool>> GgufValue::flags() const {
  if (type_ != GgufType::kBool) return std::nullopt;
  return all<bool>(size_, [&](size_t i) { return flag_at(type_, encoded_, i); });
}
std::optional<std::vector<int64_t>> GgufValue::integers() const {
  if (!integer_at(type_, std::string_view("\0\0\0\0\0\0\0\0", 8), 0)) return std::nullopt;
  return all<int64_t>(size_, [&](size_t i) { return integer_at(type_, encoded_, i); });
}
std::optional<std::vector<double>> GgufValue::numbers() const {
  if (type_ != GgufType::kF32 && type_ != GgufType::kF64) return std::nullopt;
  return all<double>(size_, [&](size_t i) { return number_at(type_, encoded_, i); });
}
std::optional<std::vector<std::string>> GgufValue::texts() const {
  if (type_ != GgufType::kString) return std::nullopt;
  std::string_view rest = encoded_;
  std::vector<std::string> values(static_cast<size_t>(size_));
  for (std::string& value : values) value = take_string(rest);
  return values;
}

bool GgufValue::operator==(const GgufValue& other) const {
  return type_ == other.type_ && is_array_ == other.is_array_ && size_ == other.size_ &&
         encoded_ == other.encoded_;
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

const GgufValue& GgufMetadata::at(std::string_view key) const {
  const GgufValue* value = find(key);
  require(value != nullptr, "{} has no key {}", what_, Quoted{key});
  return *value;
}

template <typename T>
T GgufMetadata::wanted(std::string_view key, std::optional<T> (GgufValue::*read)() const,
                       std::string_view type) const {
  const GgufValue& value = at(key);
  std::optional<T> result = (value.*read)();
  require(result.has_value(), "{}: the key {} holds a value of type {}; {} was expected", what_, Quoted{key},
          value.described(), type);
  return *std::move(result);
}

bool GgufMetadata::flag(std::string_view key) const { return wanted(key, &GgufValue::flag, "a bool"); }
bool GgufMetadata::flag_or(std::string_view key, bool otherwise) const {
  return contains(key) ? flag(key) : otherwise;
}
int64_t GgufMetadata::integer(std::string_view key) const {
  return wanted(key, &GgufValue::integer, "an integer (at most 63 bits)");
}
int64_t GgufMetadata::integer_or(std::string_view key, int64_t otherwise) const {
  return contains(key) ? integer(key) : otherwise;
}
double GgufMetadata::number(std::string_view key) const {
  return wanted(key, &GgufValue::number, "f32 or f64");
}
double GgufMetadata::number_or(std::string_view key, double otherwise) const {
  return contains(key) ? number(key) : otherwise;
}
std::string GgufMetadata::text(std::string_view key) const {
  return wanted(key, &GgufValue::text, "a string");
}
std::string GgufMetadata::text_or(std::string_view key, std::string_view otherwise) const {
  return contains(key) ? text(key) : std::string(otherwise);
}
std::vector<bool> GgufMetadata::flags(std::string_view key) const {
  return wanted(key, &GgufValue::flags, "an array of bools");
}
std::vector<int64_t> GgufMetadata::integers(std::string_view key) const {
  return wanted(key, &GgufValue::integers, "an array of integers (at most 63 bits)");
}
std::vector<double> GgufMetadata::numbers(std::string_view key) const {
  return wanted(key, &GgufValue::numbers, "an array of f32 or f64");
}
std::vector<std::string> GgufMetadata::texts(std::string_view key) const {
  return wanted(key, &GgufValue::texts, "an array of strings");
}

void GgufMetadata::set(std::string_view key, GgufValue value) {
  const auto it = values_.find(key);
  if (it != values_.end()) {
    it->second = std::move(value);
    return;
  }
  keys_.emplace_back(key);
  values_.emplace(key, std::move(value));
}

void GgufMetadata::erase(std::string_view key) {
  const auto it = values_.find(key);
  if (it == values_.end()) return;
  values_.erase(it);
  keys_.erase(std::ranges::find(keys_, key));
}

}  // namespace gatewright
