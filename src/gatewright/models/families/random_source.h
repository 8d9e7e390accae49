// A model of any size with random weights, as a source that can be written: what takes time and memory in the
// true one takes as much in it. Nothing but a pool of rows is kept.
#pragma once

#include <map>
#include <vector>

#include "gatewright/models/families/model_source.h"

namespace gatewright {

class RandomSource : public ModelSource {
 public:
  /// type: of matrices other than routers, by the rules of quantize_rules.h where rows are no whole blocks;
  /// the rest is F32. Matrices are scaled by 1 / sqrt(columns), norms are ones. Rows are taken from a pool of
  /// 256, so the bytes of a file compress well, and nothing else is like text about the model.
  RandomSource(Architecture architecture, DataType type);

  const Architecture& architecture() const override { return architecture_; }
  const std::vector<ModelTensor>& tensors() const override { return tensors_; }
  DataType type_of(const ModelTensor& tensor) const override;
  std::span<const std::byte> rows(const ModelTensor& tensor, int64_t first, int64_t count,
                                  std::vector<std::byte>& storage) const override;
  const GgufMetadata& metadata() const override { return metadata_; }
  const OrderedJson& config() const override { return config_; }
  std::filesystem::path folder() const override { return {}; }

 private:
  /// Packed rows of so many values.
  using Pool = std::vector<std::byte>;
  static Pool make_pool(int64_t columns, DataType type);

  Architecture architecture_;
  DataType type_;
  std::vector<ModelTensor> tensors_;
  std::map<int64_t, Pool> pools_;  // of matrices, by columns
  GgufMetadata metadata_;
  OrderedJson config_ = OrderedJson::object();
};

}  // namespace gatewright
