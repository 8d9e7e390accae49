#include "gatewright/models/families/model_source.h"

#include "gatewright/formats/block_types.h"

namespace gatewright {

void ModelSource::read_values(const ModelTensor& tensor, int64_t first, int64_t count,
                              std::span<float> values) const {
  std::vector<std::byte> storage;
  unpack(type_of(tensor), rows(tensor, first, count, storage), values);
}

}  // namespace gatewright
