// Which tensors a model has, by the names that our decoder uses, and where their rows lie in a file of either
// format. One list serves checking, loading and converting.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gatewright/models/families/architecture.h"

namespace gatewright {

enum class FileFormat { kGguf, kHuggingFace };

/// How the rows of a tensor lie in a tensor of a file.
enum class RowLayout {
  kPlain,
  kInterleavedHeads,  // within each head in the interleaved order of the rotary embedding; ours are in halves
  kTransposed,        // as columns of the matrices [columns, rows] that the file's tensor is a stack of
  kMxfp4Pairs,        // a tensor of nibbles in pairs of neighbours, and one of scales (GPT-OSS)
};

/// Consecutive rows of one of our tensors in a file: row i is row first + i * step there, counted in rows as
/// long as ours.
struct RowRange {
  std::string tensor = {};          // its name in the file; of kMxfp4Pairs without "_blocks" and "_scales"
  std::vector<int64_t> shape = {};  // of the file's tensor
  int64_t rows = 0;
  int64_t first = 0;
  int64_t step = 1;
  RowLayout layout = RowLayout::kPlain;
  int64_t heads = 0;  // of kInterleavedHeads
  int64_t slice = 0;  // of kTransposed: which matrix of the stack
};

/// Where row `row` of the range lies in the file's tensor, counted in rows as long as ours. Not of
/// kTransposed.
int64_t file_row(const RowRange& range, int64_t row);

/// A tensor by our name ("model.layers.0.mlp.experts.{}.up_proj.weight" stands for a stack), and the ways in
/// which files of a format hold it: each a list of ranges that follow each other. The first is the one
/// written.
struct ModelTensor {
  std::string name;
  std::vector<int64_t> shape;  // [E, out, in], [out, in] or [n]
  std::vector<std::vector<RowRange>> gguf, hugging_face;

  const std::vector<std::vector<RowRange>>& in(FileFormat format) const {
    return format == FileFormat::kGguf ? gguf : hugging_face;
  }
  /// Values of a row: of the last axis, 1 in a vector.
  int64_t columns() const { return shape.size() > 1 ? shape.back() : 1; }
  int64_t rows() const;
};

/// In the order of the layers.
std::vector<ModelTensor> model_tensors(const Architecture& architecture);

/// A tensor of a file to be written, and what its rows are made from.
struct FileTensor {
  struct Part {
    const ModelTensor* tensor = nullptr;
    int64_t first_row = 0;  // of ours
    RowRange range = {};
  };
  std::string name;
  std::vector<int64_t> shape;
  std::vector<Part> parts = {};  // in the order of the file's rows
};

/// The tensors of a file of the format. They point into `tensors`.
std::vector<FileTensor> file_tensors(const std::vector<ModelTensor>& tensors, FileFormat format);

}  // namespace gatewright
