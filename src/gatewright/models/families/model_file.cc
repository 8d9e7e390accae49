#include "gatewright/models/families/model_file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/quoted.h"
#include "gatewright/base/words.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/formats/gguf.h"
#include "gatewright/formats/gguf_claims.h"
#include "gatewright/formats/safetensors_folder.h"
#include "gatewright/formats/tensor_names.h"
#include "gatewright/models/families/gguf_config.h"
#include "gatewright/models/families/hf_config.h"

namespace gatewright {
namespace {

constexpr uint64_t kLargestConfig = 16 << 20;
constexpr int64_t kMxfp4Elements = 32, kMxfp4Pairs = kMxfp4Elements / 2;

using Tensors = std::map<std::string, TensorView>;
using Shape = std::vector<int64_t>;

/// Files may leave out or add leading axes of one.
Shape without_leading_ones(const Shape& shape) {
  const auto first = std::ranges::find_if(shape, [](int64_t d) { return d != 1; });
  return {first, shape.end()};
}

int64_t row_bytes(DataType type, int64_t columns) {
  return columns / block_elements(type) * block_bytes(type);
}

/// Names in the file that the range reads.
std::vector<std::string> names_of(const RowRange& range) {
  if (range.layout != RowLayout::kMxfp4Pairs) return {range.tensor};
  return {range.tensor + "_blocks", range.tensor + "_scales"};
}

Shape shape_of(const RowRange& range, size_t which) {
  if (range.layout != RowLayout::kMxfp4Pairs) return range.shape;
  Shape shape = range.shape;
  shape.back() /= kMxfp4Elements;
  if (which == 0) shape.push_back(kMxfp4Pairs);
  return shape;
}

bool is_weight_type(DataType type) {
  return is_packed(type) || type == DataType::kF32 || type == DataType::kF16 || type == DataType::kBF16;
}

/// Tensors that belong to a model's function otherwise, or that every program leaves alone.
bool may_be_ignored(const std::string& name, const Architecture& a) {
  if (name == "rope_freqs.weight" || name.starts_with("rope_factors_")) return true;
  if (name.ends_with("rotary_emb.inv_freq")) return true;
  return a.tie_word_embeddings && (name == "lm_head.weight" || name == "output.weight");
}

/// What the names of the file say about the number of layers and of experts where the configuration
/// disagrees.
std::vector<std::string> counting_problems(const Tensors& tensors, const Architecture& a) {
  int64_t layers = 0, experts = 0;
  for (const auto& [name, view] : tensors) {
    layers = std::max(layers, number_after(name, "model.layers.").value_or(-1) + 1);
    experts = std::max(experts, number_after(name, ".experts.").value_or(-1) + 1);
  }
  std::vector<std::string> problems;
  if (layers != a.num_layers())
    problems.push_back(
        fmt::format("it has tensors of {} layers, the configuration says {}", layers, a.num_layers()));
  int64_t told = 0;
  for (const ArchitectureLayer& layer : a.layers)
    told = std::max(told, layer.routed ? layer.routed->num_experts : 0);
  if (experts > 0 && experts != told)
    problems.push_back(
        fmt::format("it has tensors of {} experts a layer, the configuration says {}", experts, told));
  return problems;
}

[[noreturn]] void fail_with(const std::vector<std::string>& problems, const std::string& path) {
  constexpr size_t kShown = 8;
  fail("{}: tensors and configuration disagree: {}", path, first_of(problems, kShown));
}

/// Why a tensor of the file can't be read as the range says; "" when it can.
std::string problem_with(const TensorView& view, const RowRange& range, size_t which, int64_t columns) {
  if (without_leading_ones(view.shape) != without_leading_ones(shape_of(range, which)))
    return fmt::format("{} has shape [{}], [{}] is expected", Quoted{view.name}, fmt::join(view.shape, ", "),
                       fmt::join(shape_of(range, which), ", "));
  if (range.layout == RowLayout::kMxfp4Pairs)
    return view.dtype == DataType::kU8 ? "" : fmt::format("{} must be of type U8", Quoted{view.name});
  if (!is_weight_type(view.dtype))
    return fmt::format("{} is of the type {}, which is no weight's", Quoted{view.name},
                       data_type_name(view.dtype));
  if (columns % block_elements(view.dtype) != 0)
    return fmt::format("{} is of the type {}, whose blocks do not fit its rows", Quoted{view.name},
                       data_type_name(view.dtype));
  return "";
}

}  // namespace

ModelFile::ModelFile(const std::filesystem::path& path) : path_(path) {
  if (std::filesystem::is_directory(path)) {
    format_ = FileFormat::kHuggingFace;
    open_folder();
  } else {
    open_gguf(std::make_shared<const GgufFile>(path));
  }
  find_tensors();
}

ModelFile::ModelFile(std::shared_ptr<const GgufFile> file) : path_(file->paths().front()) {
  open_gguf(std::move(file));
  find_tensors();
}

void ModelFile::find_tensors() {
  tensors_ = model_tensors(architecture_);
  for (size_t i = 0; i < tensors_.size(); ++i) by_name_[tensors_[i].name] = i;
  check();
}

void ModelFile::open_gguf(std::shared_ptr<const GgufFile> file) {
  owner_ = gguf_ = std::move(file);
  file_tensors_ = &gguf_->tensors();
  metadata_ = gguf_->metadata();
  architecture_ = architecture_from_gguf(metadata_, *file_tensors_);
}

void ModelFile::open_folder() {
  const std::filesystem::path config = path_ / "config.json";
  const std::string text = read_file(config, kLargestConfig);
  architecture_ = architecture_from_config(parse_json(text, config.string()), config.string());
  config_ = OrderedJson::parse(text);
  const auto folder = std::make_shared<const SafetensorsFolder>(path_);
  owner_ = folder;
  file_tensors_ = &folder->tensors();
  // Tied or not, whatever config.json says by default: what is there counts.
  if (architecture_.tie_word_embeddings || file_tensors_->contains("lm_head.weight")) return;
  architecture_.tie_word_embeddings = !config_.contains("tie_word_embeddings");
}

void ModelFile::check() {
  std::vector<std::string> problems = format_ == FileFormat::kGguf
                                          ? disagreements(metadata_, *file_tensors_)
                                          : counting_problems(*file_tensors_, architecture_);
  std::set<std::string> used;
  for (const ModelTensor& tensor : tensors_) {
    const auto& alternatives = tensor.in(format_);
    const auto present = [&](const std::vector<RowRange>& all) {
      return std::ranges::all_of(all, [&](const RowRange& range) {
        return std::ranges::all_of(names_of(range),
                                   [&](const std::string& n) { return file_tensors_->contains(n); });
      });
    };
    const auto found = std::ranges::find_if(alternatives, present);
    alternative_.push_back(found == alternatives.end() ? 0
                                                       : static_cast<size_t>(found - alternatives.begin()));
    std::set<std::string> named;
    for (const RowRange& range : alternatives[alternative_.back()]) {
      const std::vector<std::string> names = names_of(range);
      for (size_t which = 0; which < names.size(); ++which) {
        used.insert(names[which]);
        if (!named.insert(names[which]).second) continue;
        const auto it = file_tensors_->find(names[which]);
        const std::string problem = it == file_tensors_->end()
                                        ? fmt::format("{} is missing", names[which])
                                        : problem_with(it->second, range, which, tensor.columns());
        if (!problem.empty()) problems.push_back(problem);
      }
    }
  }
  for (const auto& [name, view] : *file_tensors_) {
    if (!used.contains(name) && !may_be_ignored(name, architecture_))
      problems.push_back(fmt::format("{} belongs to no layer or expert", Quoted{name}));
  }
  if (!problems.empty()) fail_with(problems, path_.string());
}

const ModelTensor& ModelFile::tensor(const std::string& name) const {
  const auto it = by_name_.find(name);
  if (it == by_name_.end()) fail("{}: the model has no {}", path_.string(), name);
  return tensors_[it->second];
}

const std::vector<RowRange>& ModelFile::ranges(const ModelTensor& tensor) const {
  return tensor.in(format_)[alternative_[static_cast<size_t>(&tensor - tensors_.data())]];
}

DataType ModelFile::type_of(const ModelTensor& tensor) const {
  std::optional<DataType> type;
  for (const RowRange& range : ranges(tensor)) {
    if (range.layout == RowLayout::kTransposed) return DataType::kF32;
    const DataType of_range =
        range.layout == RowLayout::kMxfp4Pairs ? DataType::kMXFP4 : file_tensors_->at(range.tensor).dtype;
    if (type.value_or(of_range) != of_range) return DataType::kF32;
    type = of_range;
  }
  return *type;
}

ModelFile::Place ModelFile::place(const ModelTensor& tensor, int64_t row) const {
  for (const RowRange& range : ranges(tensor)) {
    if (row < range.rows) return {.range = &range, .row = row, .left = range.rows - row};
    row -= range.rows;
  }
  fail("{}: {} has no such row", path_.string(), tensor.name);
}

void ModelFile::read_row(const ModelTensor& tensor, const Place& at, std::span<float> out) const {
  const RowRange& range = *at.range;
  const int64_t columns = tensor.columns();
  if (range.layout == RowLayout::kMxfp4Pairs) {
    std::vector<std::byte> packed(static_cast<size_t>(row_bytes(DataType::kMXFP4, columns)));
    copy_row(tensor, at, DataType::kMXFP4, packed);
    return unpack(DataType::kMXFP4, packed, out);
  }
  const TensorView& view = file_tensors_->at(range.tensor);
  const int64_t row = file_row(range, at.row);
  if (range.layout != RowLayout::kTransposed) {
    const auto bytes = static_cast<size_t>(row_bytes(view.dtype, columns));
    return unpack(view.dtype, view.data.subspan(static_cast<size_t>(row) * bytes, bytes), out);
  }
  // A column: each value lies in a row of its own.
  const int64_t width = range.shape.back(), block = block_elements(view.dtype), first = row / block * block;
  std::vector<float> values(static_cast<size_t>(block));
  for (int64_t c = 0; c < columns; ++c) {
    const int64_t at_block = ((range.slice * columns + c) * width + first) / block;
    const auto bytes = static_cast<size_t>(block_bytes(view.dtype));
    unpack(view.dtype, view.data.subspan(static_cast<size_t>(at_block) * bytes, bytes), values);
    out[static_cast<size_t>(c)] = values[static_cast<size_t>(row - first)];
  }
}

void ModelFile::copy_row(const ModelTensor& tensor, const Place& at, DataType type,
                         std::span<std::byte> out) const {
  const RowRange& range = *at.range;
  const int64_t columns = tensor.columns(), row = file_row(range, at.row);
  if (range.layout == RowLayout::kMxfp4Pairs) {
    const std::span<const std::byte> blocks = file_tensors_->at(range.tensor + "_blocks").data,
                                     scales = file_tensors_->at(range.tensor + "_scales").data;
    for (int64_t b = 0; b < columns / kMxfp4Elements; ++b) {
      const auto block = static_cast<size_t>(row * columns / kMxfp4Elements + b);
      std::byte* to = out.data() + b * block_bytes(type);
      *to++ = scales[block];
      const auto nibble = [&](int64_t i) {
        const std::byte pair = blocks[block * kMxfp4Pairs + static_cast<size_t>(i / 2)];
        return i % 2 == 0 ? pair & std::byte{15} : pair >> 4;
      };
      for (int64_t i = 0; i < kMxfp4Pairs; ++i) to[i] = nibble(i) | nibble(i + kMxfp4Pairs) << 4;
    }
    return;
  }
  const TensorView& view = file_tensors_->at(range.tensor);
  if (view.dtype == type && range.layout != RowLayout::kTransposed) {
    std::memcpy(out.data(), view.data.data() + row * static_cast<int64_t>(out.size()), out.size());
    return;
  }
  std::vector<float> values(static_cast<size_t>(columns));
  read_row(tensor, at, values);
  std::memcpy(out.data(), values.data(), out.size());
}

std::span<const std::byte> ModelFile::rows(const ModelTensor& tensor, int64_t first, int64_t count,
                                           std::vector<std::byte>& storage) const {
  const DataType type = type_of(tensor);
  const auto bytes = static_cast<size_t>(row_bytes(type, tensor.columns()));
  if (count == 0) return {};
  const Place begin = place(tensor, first);
  const bool in_one_piece =
      begin.left >= count && begin.range->layout == RowLayout::kPlain && begin.range->step == 1;
  if (in_one_piece && file_tensors_->at(begin.range->tensor).dtype == type)
    return file_tensors_->at(begin.range->tensor)
        .data.subspan(static_cast<size_t>(file_row(*begin.range, begin.row)) * bytes,
                      static_cast<size_t>(count) * bytes);
  storage.resize(static_cast<size_t>(count) * bytes);
  for (int64_t r = 0; r < count; ++r)
    copy_row(tensor, place(tensor, first + r), type,
             std::span(storage).subspan(static_cast<size_t>(r) * bytes, bytes));
  return storage;
}

bool is_published_model(const std::filesystem::path& path) {
  if (std::filesystem::is_regular_file(path)) return is_gguf(path);
  const std::filesystem::path config = path / "config.json";
  if (!std::filesystem::exists(config)) return false;
  const Json json = parse_json(read_file(config, kLargestConfig), config.string());
  return json.is_object() && !json.contains("gatewright") && json.value("model_type", Json()) != "gatewright";
}

}  // namespace gatewright
