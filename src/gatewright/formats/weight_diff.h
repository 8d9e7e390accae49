// What differs between two files of weights, by the names that they hold.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/formats/tensor_view.h"

namespace gatewright {

struct KeyDifference {
  std::string key;
  std::optional<std::string> first, second;  // as text, long ones cut; nothing where the key is not
};

struct TensorDifference {
  struct Side {
    DataType dtype;
    std::vector<int64_t> shape;
  };
  std::string name;
  std::optional<Side> first, second;  // nothing where the tensor is not
  /// Of the values that the bytes stand for, when the shapes are the same.
  struct Values {
    double max_abs = 0;       // largest difference
    double rms = 0;           // root of the mean squared difference
    double relative = 0;      // rms over the rms of the first's values
    uint64_t not_finite = 0;  // values that are not finite on either side and differ; not in the others
  };
  std::optional<Values> values;
};

struct WeightDiff {
  std::vector<KeyDifference> keys;
  std::vector<TensorDifference> tensors;
  uint64_t same_keys = 0, same_tensors = 0;

  bool empty() const { return keys.empty() && tensors.empty(); }
};

struct DiffOptions {
  /// Tensors of the same shape whose values differ by no more than this count as the same, whatever their
  /// types. Without it, types and bytes must be equal.
  std::optional<double> tolerance = std::nullopt;
  /// Called from time to time with the bytes of the first that are done, of all, and the tensor at work.
  std::function<void(uint64_t done, uint64_t total, std::string_view tensor)> progress = {};
};

/// Each side is a GGUF file (or a part of a split model), a .safetensors file, or a folder with
/// model.safetensors or its index (whose config.json is compared key by key). Memory stays small whatever the
/// sizes.
WeightDiff diff_weights(const std::filesystem::path& first, const std::filesystem::path& second,
                        const DiffOptions& options = {});

}  // namespace gatewright
