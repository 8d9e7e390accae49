// One part of a tokenizer.json, an object with a type, read strictly: what is not known is an error that
// names it.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "gatewright/base/error.h"
#include "gatewright/base/json.h"
#include "gatewright/base/quoted.h"

namespace gatewright {

/// Sequences may hold sequences, so deep, and so many parts in all.
inline constexpr int kDeepestPart = 8;
inline constexpr size_t kMostParts = 64;
/// Of a text that replaces another, in bytes.
inline constexpr size_t kLongestReplacement = 64;

class JsonPart {
 public:
  /// `what` names the file, `path` the part ("normalizer"). The JSON must outlive it.
  JsonPart(const Json& json, std::string_view what, std::string_view path)
      : json_(json), what_(what), path_(path) {
    require(json.is_object(), "{}: {} must be an object, it is {}", what, path, json.type_name());
    type_ = text("type");
  }

  const std::string& type() const { return type_; }
  std::string_view what() const { return what_; }
  const std::string& path() const { return path_; }

  /// Refuses members other than these and "type".
  void allow(std::initializer_list<std::string_view> keys) const {
    for (auto item = json_.begin(); item != json_.end(); ++item) {
      bool known = item.key() == "type";
      for (const std::string_view key : keys) known |= item.key() == key;
      require(known, "{}: {} of type {} has the member {}, which is not known", what_, path_, Quoted{type_},
              Quoted{item.key()});
    }
  }

  /// The member, or null when it is absent.
  const Json& member(const char* key) const {
    static const Json null;
    const auto found = json_.find(key);
    return found == json_.end() ? null : *found;
  }
  std::string text(const char* key) const {
    const Json& value = member(key);
    require(value.is_string(), "{}: {}.{} must be a text, it is {}", what_, path_, key, value.type_name());
    return value.get<std::string>();
  }
  std::string text_or(const char* key, std::string otherwise) const {
    return member(key).is_null() ? otherwise : text(key);
  }
  bool flag_or(const char* key, bool otherwise) const {
    const Json& value = member(key);
    require(value.is_null() || value.is_boolean(), "{}: {}.{} must be true or false, it is {}", what_, path_,
            key, value.type_name());
    return value.is_null() ? otherwise : value.get<bool>();
  }
  int64_t integer_or(const char* key, int64_t otherwise) const {
    const Json& value = member(key);
    if (value.is_null()) return otherwise;
    require(value.is_number_integer() && value >= 0 && value <= INT32_MAX,
            "{}: {}.{} must be a whole number from 0 to {}", what_, path_, key, INT32_MAX);
    return value.get<int64_t>();
  }
  const Json& list(const char* key) const {
    const Json& value = member(key);
    require(value.is_array(), "{}: {}.{} must be a list, it is {}", what_, path_, key, value.type_name());
    return value;
  }
  JsonPart child(const Json& json, const char* key, size_t i) const {
    return {json, what_, fmt::format("{}.{}[{}]", path_, key, i)};
  }
  [[noreturn]] void fail_unknown() const {
    fail("{}: {} has the type {}, which is not supported", what_, path_, Quoted{type_});
  }

 private:
  const Json& json_;
  std::string what_, path_, type_;
};

/// A `pattern` of tokenizer.json: {"String": "..."} or {"Regex": "..."}, or a text alone.
struct JsonPattern {
  std::string text;
  bool is_regex = false;
};
inline JsonPattern pattern_of(const JsonPart& part) {
  const Json& pattern = part.member("pattern");
  if (pattern.is_string()) return {.text = pattern.get<std::string>()};
  if (pattern.is_object() && pattern.size() == 1) {
    const auto only = pattern.begin();
    const bool regex = only.key() == "Regex";
    if ((regex || only.key() == "String") && only->is_string())
      return {.text = only->get<std::string>(), .is_regex = regex};
  }
  fail("{}: {}.pattern must be {{\"String\": ...}} or {{\"Regex\": ...}}", part.what(), part.path());
}

}  // namespace gatewright
