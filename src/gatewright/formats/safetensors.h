// safetensors: u64 header length, JSON header, then the bytes of the tensors.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "gatewright/base/file.h"
#include "gatewright/formats/tensor_plan.h"
#include "gatewright/formats/tensor_view.h"

namespace gatewright {

using Metadata = std::map<std::string, std::string>;

/// A file mapped and checked completely: the header fits, types are known, every shape times its type equals
/// its range, and the ranges tile the data without holes or overlaps.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const Metadata& metadata() const { return metadata_; }
  const MappedFile& file() const { return file_; }

 private:
  MappedFile file_;
  Metadata metadata_;  // before the tensors, whose reading fills it
  std::map<std::string, TensorView> tensors_;
};

/// The tensors of a safetensors file in memory; `what` names it in errors. The views point into `bytes`.
std::map<std::string, TensorView> parse_safetensors(std::span<const std::byte> bytes, std::string_view what,
                                                    Metadata* metadata = nullptr);

/// Writes the tensors in the order given, beside and renamed. The same tensors give the same bytes.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const Metadata& metadata = {});
void write_safetensors(const std::filesystem::path& path, std::span<const TensorPlan> tensors,
                       const Metadata& metadata = {});
/// Writes into a file that the caller commits.
void write_safetensors(AtomicFile& file, std::span<const TensorPlan> tensors, const Metadata& metadata = {});
/// Bytes of the file that write_safetensors would write.
uint64_t safetensors_size(std::span<const TensorView> tensors, const Metadata& metadata = {});
uint64_t safetensors_size(std::span<const TensorPlan> tensors, const Metadata& metadata = {});

}  // namespace gatewright
