// GGUF, version 3 (and 2, which has the same layout): metadata, names, shapes and types of the tensors, then
// their bytes at multiples of the alignment. A model may be split over NAME-00001-of-00003.gguf and so on.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gatewright/base/file.h"
#include "gatewright/formats/gguf_metadata.h"
#include "gatewright/formats/tensor_plan.h"
#include "gatewright/formats/tensor_view.h"

namespace gatewright {

/// Bytes of GGUF, checked completely: counts against what is left, keys and names that are empty or repeat,
/// types, dimensions, alignment, and every tensor's range inside the file and apart from the others'.
struct Gguf {
  GgufMetadata metadata;
  std::map<std::string, TensorView> tensors;  // shapes in PyTorch's order: the format's dimensions reversed
  std::vector<std::string> order;             // names as the file lists them
  uint64_t alignment = 32;
};

/// what: the file, for errors. Values and views point into `bytes`, which must live as long; `owner` (may be
/// null) is kept by the values of the metadata.
Gguf parse_gguf(std::span<const std::byte> bytes, std::string_view what,
                std::shared_ptr<const void> owner = nullptr);

/// A mapped model, from one file or from all parts of a split one.
class GgufFile {
 public:
  /// path: the file, or any part of a split one, whose name must end in -00001-of-00003.gguf; every part must
  /// be there and agree about the number of parts and tensors.
  explicit GgufFile(const std::filesystem::path& path);

  /// The first part's, without the keys split.*: what holds for the whole. May outlive the GgufFile.
  const GgufMetadata& metadata() const { return metadata_; }
  /// Of all parts; the views live as long as the GgufFile.
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  /// Names as the parts list them, one part after the other.
  const std::vector<std::string>& order() const { return order_; }
  const TensorView& tensor(const std::string& name) const;
  /// Of the first part.
  uint64_t alignment() const { return alignment_; }
  /// Of all parts, for a split model all files.
  uint64_t file_bytes() const;
  const std::vector<std::filesystem::path>& paths() const { return paths_; }
  /// Tells the system that these bytes of a tensor are not needed soon, so that reading through a file larger
  /// than memory does not fill it.
  void release(std::span<const std::byte> bytes) const;

 private:
  void add(Gguf part, const std::filesystem::path& path);

  std::vector<std::filesystem::path> paths_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  GgufMetadata metadata_;
  std::map<std::string, TensorView> tensors_;
  std::vector<std::string> order_;
  uint64_t alignment_ = 32;
};

/// Whether the file begins as GGUF does.
bool is_gguf(const std::filesystem::path& path);

/// The format's number of a tensor type, and back; nothing for types that it has no number for.
std::optional<uint32_t> ggml_type_id(DataType type);
std::optional<DataType> data_type_of_ggml(uint32_t id);

/// Writes the tensors in the order given, beside and renamed, with the metadata's alignment; what is produced
/// on the fly is never all in memory. The room is checked before.
void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                std::span<const TensorPlan> tensors);
/// Bytes of the file that write_gguf would write. Fails on what could not be read back.
uint64_t gguf_size(const GgufMetadata& metadata, std::span<const TensorPlan> tensors);

}  // namespace gatewright
