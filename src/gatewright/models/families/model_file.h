// A published model in a file: its architecture, and the rows of its tensors by our names, whatever format,
// layout and types the file has. Nothing is read before it is asked for. No LibTorch.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gatewright/formats/gguf.h"
#include "gatewright/models/families/model_source.h"

namespace gatewright {

class ModelFile : public ModelSource {
 public:
  /// A GGUF file (of a split model any part), or a folder with config.json and model.safetensors or its
  /// index. Fails when the architecture is not known, or with every disagreement between it and the tensors:
  /// layers, experts and tensors that are missing, too many or of another shape.
  explicit ModelFile(const std::filesystem::path& path);
  /// The same of a GGUF file that is open already.
  explicit ModelFile(std::shared_ptr<const GgufFile> file);

  const std::filesystem::path& path() const { return path_; }
  FileFormat format() const { return format_; }
  const Architecture& architecture() const override { return architecture_; }
  const std::vector<ModelTensor>& tensors() const override { return tensors_; }
  /// By our name; fails when the model has none.
  const ModelTensor& tensor(const std::string& name) const;

  /// F32 when parts of a tensor differ, or lie so that only their values can be read.
  DataType type_of(const ModelTensor& tensor) const override;
  std::span<const std::byte> rows(const ModelTensor& tensor, int64_t first, int64_t count,
                                  std::vector<std::byte>& storage) const override;

  /// Of a GGUF file, without the keys of a split; empty for folders.
  const GgufMetadata& metadata() const override { return metadata_; }
  /// Of a folder; empty for GGUF files.
  const OrderedJson& config() const override { return config_; }
  std::filesystem::path folder() const override {
    return format_ == FileFormat::kHuggingFace ? path_ : std::filesystem::path();
  }
  /// The open file; null for folders.
  const std::shared_ptr<const GgufFile>& gguf() const { return gguf_; }
  /// As they stand in the file.
  const std::map<std::string, TensorView>& file_tensors() const { return *file_tensors_; }
  /// Keeps the mapped bytes alive.
  std::shared_ptr<const void> owner() const { return owner_; }

 private:
  void open_gguf(std::shared_ptr<const GgufFile> file);
  void open_folder();
  /// The tensors that the architecture has, and whether the file has them.
  void find_tensors();
  void check();

  /// A row of ours in the file.
  struct Place {
    const RowRange* range;
    int64_t row;   // of the range
    int64_t left;  // rows of the range from here on
  };
  Place place(const ModelTensor& tensor, int64_t row) const;
  void copy_row(const ModelTensor& tensor, const Place& at, DataType type, std::span<std::byte> out) const;
  void read_row(const ModelTensor& tensor, const Place& at, std::span<float> out) const;
  const std::vector<RowRange>& ranges(const ModelTensor& tensor) const;

  std::filesystem::path path_;
  FileFormat format_ = FileFormat::kGguf;
  Architecture architecture_;
  std::vector<ModelTensor> tensors_;
  std::map<std::string, size_t> by_name_;
  std::vector<size_t> alternative_;  // of each tensor, the one that the file has
  GgufMetadata metadata_;
  OrderedJson config_ = OrderedJson::object();
  std::shared_ptr<const GgufFile> gguf_;
  std::shared_ptr<const void> owner_;
  const std::map<std::string, TensorView>* file_tensors_ = nullptr;
};

/// Whether there is a model that ModelFile reads: a GGUF file, or a folder whose config.json is of a known
/// family and not of our own kind.
bool is_published_model(const std::filesystem::path& path);

}  // namespace gatewright
