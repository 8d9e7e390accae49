// The keys of one architecture in a GGUF file (ARCH.block_count and so on), one by one.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "gatewright/base/checked.h"
#include "gatewright/base/error.h"
#include "gatewright/formats/gguf_metadata.h"

namespace gatewright {

/// The keys of one architecture while they are read.
struct GgufKeys {
  const GgufMetadata& metadata;
  std::string prefix;  // "olmoe."

  std::string key(const char* name) const { return prefix + name; }
  bool has(const char* name) const { return metadata.contains(key(name)); }
  /// Whether a whole number is there and means something: llama.cpp's own writer puts 0 for what it has not.
  bool has_size(const char* name) const { return has(name) && metadata.integer(key(name)) != 0; }
  int64_t size(const char* name) const {
    const int64_t value = metadata.integer(key(name));
    require(value >= 1 && value <= int64_t{1} << 24, "{}: {} must be in [1, {}], got {}", metadata.what(),
            key(name), int64_t{1} << 24, value);
    return value;
  }
  int64_t size_or(const char* name, int64_t otherwise) const {
    return has_size(name) ? size(name) : otherwise;
  }
  /// The shortest decimal that rounds to the file's float32: what its writer had in mind.
  double number_or(const char* name, double otherwise) const {
    const double value = metadata.number_or(key(name), otherwise);
    require(std::isfinite(value), "{}: {} must be a finite number", metadata.what(), key(name));
    return std::stod(fmt::format("{}", static_cast<float>(value)));
  }
  /// One value for all layers, or an array with one for each.
  std::vector<int64_t> each_layer(const char* name, size_t layers) const {
    std::vector<int64_t> values = metadata.integers(key(name));
    if (values.size() == 1) values.resize(layers, values[0]);
    require(values.size() == layers, "{}: {} has {} entries for {} layers", metadata.what(), key(name),
            values.size(), layers);
    return values;
  }
};

inline void set_size(GgufMetadata& keys, const std::string& key, int64_t value) {
  keys.set(key, checked_cast<uint32_t>(value, key));
}

inline void set_number(GgufMetadata& keys, const std::string& key, double value) {
  keys.set(key, static_cast<float>(value));
}

}  // namespace gatewright
