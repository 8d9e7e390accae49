// Typed keys of a JSON object from outside: errors name the file and the key.
#pragma once

#include <cstdint>
#include <string_view>
#include <type_traits>

#include "gatewright/base/error.h"
#include "gatewright/base/json.h"

namespace gatewright {

/// Fails when the key is missing or has another type; a whole number is asked for by T = int64_t.
template <typename T>
T read_key(const Json& json, const char* key, std::string_view what) {
  const auto it = json.find(key);
  if (it == json.end()) fail("{}: the key '{}' is missing", what, key);
  try {
    if constexpr (std::is_same_v<T, int64_t>)
      require(it->is_number_integer(), "{}: '{}' must be a whole number", what, key);
    return it->get<T>();
  } catch (const Json::exception&) {
    fail("{}: '{}' has the wrong type: {}", what, key, it->dump().substr(0, 60));
  }
}

/// `otherwise` when the key is missing or null.
template <typename T>
T read_key_or(const Json& json, const char* key, T otherwise, std::string_view what) {
  const auto it = json.find(key);
  return it == json.end() || it->is_null() ? otherwise : read_key<T>(json, key, what);
}

/// A whole number in [1, most].
inline int64_t read_size(const Json& json, const char* key, std::string_view what,
                         int64_t most = int64_t{1} << 24) {
  const auto value = read_key<int64_t>(json, key, what);
  require(value >= 1 && value <= most, "{}: '{}' must be in [1, {}], got {}", what, key, most, value);
  return value;
}

}  // namespace gatewright
