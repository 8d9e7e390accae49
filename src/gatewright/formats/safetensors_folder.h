// A model's weights in a folder: model.safetensors, or shards and model.safetensors.index.json, which says
// for each tensor where it is.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "gatewright/formats/safetensors.h"

namespace gatewright {

/// Every file mapped and checked. Fails when neither file is there, a shard is missing, the index names a
/// tensor that its shard doesn't hold or a file outside the folder, or a tensor is in two shards.
class SafetensorsFolder {
 public:
  explicit SafetensorsFolder(const std::filesystem::path& folder);

  /// Of all shards; the views live as long as this.
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const TensorView& tensor(const std::string& name) const;
  /// Of the first shard.
  const Metadata& metadata() const { return files_.front().metadata(); }
  std::vector<std::filesystem::path> paths() const;
  uint64_t file_bytes() const;
  /// As MappedFile::release.
  void release(std::span<const std::byte> bytes) const;

  /// Whether the folder has model.safetensors or the index.
  static bool is_in(const std::filesystem::path& folder);

 private:
  void add(const std::filesystem::path& path);
  void open_shards();

  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, TensorView> tensors_;
};

constexpr uint64_t kShardBytes = 5'000'000'000;

/// Writes the tensors in the order given: as model.safetensors, or, when a file would have more than
/// shard_bytes of tensors (one tensor may be larger), as model-00001-of-00003.safetensors and so on with the
/// index. No file has its final name before all are written. The room is checked before.
void write_safetensors_folder(const std::filesystem::path& folder, std::span<const TensorPlan> tensors,
                              const Metadata& metadata = {{"format", "pt"}},
                              uint64_t shard_bytes = kShardBytes);

/// A file that write_safetensors_folder writes.
struct FolderFile {
  std::string name;
  uint64_t bytes = 0;
  std::span<const TensorPlan> tensors = {};  // of those given; none of the index
};

/// What write_safetensors_folder would write with the same arguments, the index last.
std::vector<FolderFile> safetensors_folder_files(std::span<const TensorPlan> tensors,
                                                 const Metadata& metadata = {{"format", "pt"}},
                                                 uint64_t shard_bytes = kShardBytes);

}  // namespace gatewright
