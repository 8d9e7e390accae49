#include "gatewright/formats/imatrix.h"

#include <algorithm>
#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/formats/gguf.h"

namespace gatewright {
namespace {

constexpr std::string_view kSquares = ".in_sum2", kCounts = ".counts";

std::vector<float> sums_of(const TensorView& tensor, const std::string& what) {
  require(tensor.dtype == DataType::kF32, "{}: {} is {}; F32 was expected", what, Quoted{tensor.name},
          data_type_name(tensor.dtype));
  std::vector<float> values(tensor.data.size() / sizeof(float));
  unpack(tensor.dtype, tensor.data, values);
  require(std::ranges::all_of(values, [](float v) { return std::isfinite(v) && v >= 0; }),
          "{}: {} has values that are negative or not finite", what, Quoted{tensor.name});
  return values;
}

ColumnSums column_sums(const std::string& name, const GgufFile& file, const std::string& what) {
  const auto it = file.tensors().find(name + std::string(kCounts));
  require(it != file.tensors().end(), "{}: {} has sums but no counts", what, Quoted{name});
  const TensorView& squares = file.tensor(name + std::string(kSquares));
  ColumnSums sums = {.columns = squares.shape.back(),
                     .squares = sums_of(squares, what),
                     .counts = sums_of(it->second, what)};
  sums.matrices = static_cast<int64_t>(sums.squares.size()) / sums.columns;
  require(std::cmp_equal(sums.counts.size(), sums.matrices), "{}: {} has sums of {} matrices but {} counts",
          what, Quoted{name}, sums.matrices, sums.counts.size());
  return sums;
}

std::span<const std::byte> bytes_of(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}

}  // namespace

std::vector<float> ColumnSums::importance(int64_t matrix) const {
  const float count = counts[static_cast<size_t>(matrix)];
  if (!(count > 0)) return {};
  const auto begin = squares.begin() + matrix * columns;
  std::vector<float> result(begin, begin + columns);
  for (float& v : result) v /= count;
  return result;
}

ImportanceMatrix read_imatrix(const std::filesystem::path& path) {
  require(is_gguf(path),
          "{} is no importance matrix: GGUF was expected, as `gatewright imatrix` and llama.cpp write it",
          path.string());
  const GgufFile file(path);
  const std::string what = path.string();
  const std::string type = file.metadata().text_or("general.type", "");
  require(type == "imatrix", "{} is no importance matrix: its general.type is {}, not \"imatrix\"", what,
          Quoted{type});
  ImportanceMatrix matrix;
  const auto count_of = [&](const char* key) {
    const int64_t value = file.metadata().integer_or(key, 0);
    require(value >= 0 && value <= UINT32_MAX, "{}: {} is {}", what, key, value);
    return static_cast<uint32_t>(value);
  };
  matrix.chunk_count = count_of("imatrix.chunk_count");
  matrix.chunk_size = count_of("imatrix.chunk_size");
  if (file.metadata().contains("imatrix.datasets"))
    matrix.datasets = file.metadata().texts("imatrix.datasets");
  for (const std::string& name : file.order()) {
    if (name.ends_with(kCounts)) {
      const std::string weight = name.substr(0, name.size() - kCounts.size());
      require(file.tensors().contains(weight + std::string(kSquares)), "{}: {} has counts but no sums", what,
              Quoted{weight});
      continue;
    }
    require(name.ends_with(kSquares), "{}: {} is neither sums (.in_sum2) nor counts (.counts)", what,
            Quoted{name});
    const std::string weight = name.substr(0, name.size() - kSquares.size());
    matrix.weights[weight] = column_sums(weight, file, what);
  }
  return matrix;
}

void write_imatrix(const std::filesystem::path& path, const ImportanceMatrix& matrix) {
  GgufMetadata metadata;
  metadata.set("general.type", "imatrix");
  metadata.set("imatrix.datasets", matrix.datasets);
  metadata.set("imatrix.chunk_count", matrix.chunk_count);
  metadata.set("imatrix.chunk_size", matrix.chunk_size);
  std::vector<TensorPlan> plans;
  for (const auto& [name, sums] : matrix.weights) {
    plans.push_back({.name = name + std::string(kSquares),
                     .shape = {sums.matrices, sums.columns},
                     .data = bytes_of(sums.squares)});
    plans.push_back(
        {.name = name + std::string(kCounts), .shape = {sums.matrices, 1}, .data = bytes_of(sums.counts)});
  }
  write_gguf(path, metadata, plans);
}

}  // namespace gatewright
