// A model whose tensors can be asked for row by row, by our names: a file, or what is made of one.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "gatewright/base/json.h"
#include "gatewright/formats/gguf_metadata.h"
#include "gatewright/formats/tensor_view.h"
#include "gatewright/models/families/tensor_map.h"

namespace gatewright {

class ModelSource {
 public:
  virtual ~ModelSource() = default;

  virtual const Architecture& architecture() const = 0;
  /// Those of model_tensors(architecture()).
  virtual const std::vector<ModelTensor>& tensors() const = 0;

  /// The type of all rows of a tensor.
  virtual DataType type_of(const ModelTensor& tensor) const = 0;
  /// Rows in the type above, contiguous: where they lie, else put together in `storage`.
  virtual std::span<const std::byte> rows(const ModelTensor& tensor, int64_t first, int64_t count,
                                          std::vector<std::byte>& storage) const = 0;
  /// The values of rows, float32 [count, columns].
  void read_values(const ModelTensor& tensor, int64_t first, int64_t count, std::span<float> values) const;

  /// What the model says besides its architecture: the keys of a GGUF file, config.json and the folder of the
  /// files beside it. Empty where there is none.
  virtual const GgufMetadata& metadata() const = 0;
  virtual const OrderedJson& config() const = 0;
  virtual std::filesystem::path folder() const = 0;
};

}  // namespace gatewright
