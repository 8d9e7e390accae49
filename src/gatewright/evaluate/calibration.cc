#include "gatewright/evaluate/calibration.h"

#include <algorithm>
#include <map>

#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/experts/packed_tensor.h"
#include "gatewright/experts/product_observer.h"
#include "gatewright/train/packed_tensors.h"

namespace gatewright {
namespace {

/// Where a weight lies: its views and stacks of one share it.
const void* address(const Tensor& weight) {
  return is_packed(weight) ? packed_matrices(weight)[0].data : weight.data_ptr();
}

class InputSums : public ProductObserver {
 public:
  InputSums(const Decoder& model, const std::vector<ModelTensor>& tensors, ImportanceMatrix& result)
      : result_(result) {
    std::map<std::string, const ModelTensor*> by_name;
    for (const ModelTensor& t : tensors) by_name[t.name] = &t;
    for (const NamedTensor& p : model.parameters()) {
      const auto it = by_name.find(p.name);
      if (it != by_name.end() && is_counted(*it->second))
        names_[address(p.tensor)] = it->second->gguf[0][0].tensor;
    }
  }

  void see(const Tensor& weight, int64_t index, const Tensor& rows) override {
    const auto name = names_.find(address(weight));
    if (name == names_.end()) return;
    ColumnSums& sums = result_.weights[name->second];
    const int64_t columns = rows.size(1), matrices = weight.dim() == 3 ? weight.size(0) : 1;
    if (sums.columns == 0) {
      sums = {.columns = columns, .matrices = matrices, .squares = {}, .counts = {}};
      sums.squares.resize(static_cast<size_t>(columns * matrices));
      sums.counts.resize(static_cast<size_t>(matrices));
    }
    const Tensor squares = rows.to(at::kDouble).square().sum(0).to(at::kCPU, at::kFloat).contiguous();
    for (int64_t c = 0; c < columns; ++c)
      sums.squares[static_cast<size_t>(index * columns + c)] += squares.data_ptr<float>()[c];
    sums.counts[static_cast<size_t>(index)] += static_cast<float>(rows.size(0));
  }

 private:
  /// Matrices of which GGUF's tensor begins with the first row, as it lies there.
  static bool is_counted(const ModelTensor& t) {
    const RowRange& first = t.gguf[0][0];
    return t.shape.size() > 1 && first.first == 0 && first.layout != RowLayout::kTransposed &&
           t.gguf[0].size() == 1;
  }

  ImportanceMatrix& result_;
  std::map<const void*, std::string> names_;
};

}  // namespace

ImportanceMatrix calibrate(Decoder& model, const std::vector<ModelTensor>& tensors, ValidationStream& stream,
                           int64_t batch_size, const std::function<void(int64_t)>& progress) {
  const at::NoGradGuard no_grad;
  ImportanceMatrix result;
  InputSums sums(model, tensors, result);
  int64_t done = 0;
  stream.rewind();
  while (!interrupted()) {
    const PackedBatch packed = stream.next(batch_size);
    if (packed.sequences == 0) break;
    for (const Batch& batch : batches_without_filling(packed, model.device()))
      model.logits(model.forward(batch, {.observer = &sums}).hidden, &sums);
    result.chunk_count += static_cast<uint32_t>(packed.sequences);
    result.chunk_size = static_cast<uint32_t>(packed.length);
    if (progress) progress(done += packed.sequences);
  }
  return result;
}

std::vector<std::string> little_seen(const ImportanceMatrix& matrix, int64_t least) {
  std::vector<std::string> lines;
  for (const auto& [name, sums] : matrix.weights) {
    for (int64_t e = 0; e < sums.matrices; ++e) {
      const float count = sums.counts[static_cast<size_t>(e)];
      if (sums.matrices > 1 && count < static_cast<float>(least))
        lines.push_back(fmt::format("{}: expert {} saw {} rows", name, e, static_cast<int64_t>(count)));
    }
  }
  return lines;
}

}  // namespace gatewright
