// Quantises a GGUF file of any size and architecture into another, tensor after tensor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/formats/imatrix.h"
#include "gatewright/formats/quantize_rules.h"

namespace gatewright {

struct QuantizeOptions {
  QuantizeRules rules;
  const ImportanceMatrix* importance = nullptr;
  bool dry_run = false;  // decides and reports, writes nothing
  /// Called from time to time with the bytes of the input that are done, of all, and the tensor at work. What
  /// it throws ends the work without a trace.
  std::function<void(uint64_t done, uint64_t total, std::string_view tensor)> progress = {};
};

/// What happened to one tensor.
struct QuantizedTensor {
  std::string name;
  std::vector<int64_t> shape;
  DataType before, after;
  std::optional<DataType> wanted = std::nullopt;  // when the rows did not fit it
  uint64_t bytes_before = 0, bytes_after = 0;
  /// With an importance matrix, for tensors that became packed: rows that each matrix (expert) saw; empty
  /// when the importance matrix does not know the tensor.
  std::optional<std::vector<float>> seen = std::nullopt;

  bool changed() const { return before != after; }
  /// Matrices (experts) that saw nothing and were rounded without importance.
  std::vector<int64_t> unseen() const;
};

struct QuantizeReport {
  std::vector<QuantizedTensor> tensors;        // in the order of the file
  uint64_t bytes_before = 0, bytes_after = 0;  // of the files
};

/// Reads `in` (a file or any part of a split model) and writes one file, beside and renamed. Tensors that no
/// rule changes keep their bytes; so does the metadata, but for general.file_type and
/// general.quantization_version. Fails before it writes when keys and tensors of the input disagree, or when
/// the importance matrix is of other shapes. Uses the threads of parallel_for and, whatever the file's size,
/// memory for a few rows.
QuantizeReport quantize_gguf(const std::filesystem::path& in, const std::filesystem::path& out,
                             const QuantizeOptions& options);

}  // namespace gatewright
