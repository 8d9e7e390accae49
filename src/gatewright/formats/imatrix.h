// Importance matrices: for each column of a weight the sum of its squared inputs over calibration text, as
// llama.cpp's imatrix.gguf holds them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace gatewright {

/// Of one weight: a matrix, or a stack of one for each expert.
struct ColumnSums {
  int64_t columns = 0, matrices = 1;
  std::vector<float> squares;  // [matrices, columns] sums of squared inputs
  std::vector<float> counts;   // [matrices] rows (tokens) that were seen

  /// squares / counts of one matrix, [columns]; empty when it saw nothing.
  std::vector<float> importance(int64_t matrix) const;
};

struct ImportanceMatrix {
  std::map<std::string, ColumnSums> weights;  // by the name of the weight
  std::vector<std::string> datasets;
  uint32_t chunk_count = 0, chunk_size = 0;  // pieces of text, and their tokens
};

/// Fails, naming file and weight, on a file of another kind, a weight with only one of its two tensors,
/// shapes that don't belong together, and sums that are negative or not finite.
ImportanceMatrix read_imatrix(const std::filesystem::path& path);
/// Written beside and renamed.
void write_imatrix(const std::filesystem::path& path, const ImportanceMatrix& matrix);

}  // namespace gatewright
