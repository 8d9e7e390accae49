#include "gatewright/models/families/convert.h"

#include <algorithm>
#include <cstring>

#include "gatewright/base/error.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/models/families/convert_files.h"
#include "gatewright/models/families/convert_output.h"
#include "gatewright/models/families/gguf_config.h"
#include "gatewright/models/families/hf_config.h"

namespace gatewright {
namespace {

constexpr int64_t kValuesAtOnce = int64_t{1} << 21;

/// A row of the file that is written, as one of ours.
struct Source {
  const ModelTensor* tensor = nullptr;
  int64_t row = 0;
};

std::vector<Source> sources_of(const FileTensor& file) {
  int64_t rows = 0;
  for (const FileTensor::Part& part : file.parts) rows += part.range.rows;
  std::vector<Source> sources(static_cast<size_t>(rows));
  for (const FileTensor::Part& part : file.parts) {
    for (int64_t r = 0; r < part.range.rows; ++r)
      sources.at(static_cast<size_t>(file_row(part.range, r))) = {part.tensor, part.first_row + r};
  }
  return sources;
}

void write_values(std::span<const float> values, int64_t columns, DataType type, const ByteSink& sink) {
  if (type == DataType::kF32) return sink(std::as_bytes(values));
  std::vector<std::byte> bytes(values.size() / static_cast<size_t>(block_elements(type)) *
                               static_cast<size_t>(block_bytes(type)));
  pack(type, values, columns, {}, bytes);
  sink(bytes);
}

/// Rows of ours that follow each other, in the type of the output.
void write_rows(const ModelSource& in, const Source& first, int64_t count, DataType type,
                const ByteSink& sink) {
  const ModelTensor& tensor = *first.tensor;
  const int64_t columns = tensor.columns(), at_once = std::max<int64_t>(1, kValuesAtOnce / columns);
  std::vector<std::byte> storage;
  std::vector<float> values;
  for (int64_t done = 0; done < count; done += at_once) {
    const int64_t rows = std::min(at_once, count - done);
    if (in.type_of(tensor) == type) {
      sink(in.rows(tensor, first.row + done, rows, storage));
      continue;
    }
    values.resize(static_cast<size_t>(rows * columns));
    in.read_values(tensor, first.row + done, rows, values);
    write_values(values, columns, type, sink);
  }
}

void write_by_rows(const ModelSource& in, const FileTensor& file, DataType type, const ByteSink& sink) {
  const std::vector<Source> sources = sources_of(file);
  for (size_t begin = 0; begin < sources.size();) {
    size_t end = begin + 1;
    while (end < sources.size() && sources[end].tensor == sources[begin].tensor &&
           sources[end].row == sources[end - 1].row + 1)
      ++end;
    write_rows(in, sources[begin], static_cast<int64_t>(end - begin), type, sink);
    begin = end;
  }
}

/// Matrices [columns, rows] of which our rows are the columns, one after the other.
void write_transposed(const ModelSource& in, const FileTensor& file, DataType type, const ByteSink& sink) {
  const int64_t width = file.shape.back(), height = file.shape[file.shape.size() - 2];
  std::vector<float> matrix(static_cast<size_t>(width * height)), row(static_cast<size_t>(height));
  for (size_t p = 0; p < file.parts.size(); ++p) {
    const FileTensor::Part& part = file.parts[p];
    for (int64_t r = 0; r < part.range.rows; ++r) {
      in.read_values(*part.tensor, part.first_row + r, 1, row);
      const int64_t column = part.range.first + r * part.range.step;
      for (int64_t c = 0; c < height; ++c)
        matrix[static_cast<size_t>(c * width + column)] = row[static_cast<size_t>(c)];
    }
    const bool ends = p + 1 == file.parts.size() || file.parts[p + 1].range.slice != part.range.slice;
    if (ends) write_values(matrix, width, type, sink);
  }
}

TensorPlan plan_of(const ModelSource& in, const FileTensor& file, DataType type) {
  const bool transposed = file.parts[0].range.layout == RowLayout::kTransposed;
  return {.name = file.name,
          .dtype = type,
          .shape = file.shape,
          .produce = [&in, &file, type, transposed](const ByteSink& sink) {
            transposed ? write_transposed(in, file, type, sink) : write_by_rows(in, file, type, sink);
          }};
}

/// The type that all parts have; F32 when they differ, or when the rows become columns.
DataType common_type(const ModelSource& in, const FileTensor& file) {
  const DataType first = in.type_of(*file.parts[0].tensor);
  const bool transposed = file.parts[0].range.layout == RowLayout::kTransposed;
  const bool same = std::ranges::all_of(
      file.parts, [&](const FileTensor::Part& part) { return in.type_of(*part.tensor) == first; });
  return same && !(transposed && is_packed(first)) ? first : DataType::kF32;
}

/// Whether llama.cpp wants F32: vectors, and what decides about experts.
bool is_f32_in_gguf(const FileTensor& file) {
  return file.shape.size() == 1 || file.name.ends_with(".bias") ||
         file.name.find("ffn_gate_inp") != std::string::npos || file.name.ends_with("attn_sinks.weight");
}

/// Whether every value is one of the type.
bool fits(const ModelSource& in, const FileTensor& file, DataType type) {
  for (const FileTensor::Part& part : file.parts) {
    const int64_t count = part.range.rows * part.tensor->columns();
    std::vector<float> values(static_cast<size_t>(count)), again(values.size());
    std::vector<std::byte> bytes(values.size() * static_cast<size_t>(block_bytes(type)));
    in.read_values(*part.tensor, part.first_row, part.range.rows, values);
    for (const float v : values) {
      if (!(std::abs(v) < 60000.0F)) return false;  // beyond F16
    }
    pack(type, values, count, {}, bytes);
    unpack(type, bytes, again);
    if (std::memcmp(values.data(), again.data(), values.size() * sizeof(float)) != 0) return false;
  }
  return true;
}

std::optional<DataType> type_of_config(const OrderedJson& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto it = config.find(key);
    if (it == config.end() || !it->is_string()) continue;
    const auto name = it->get<std::string>();
    return name == "bfloat16" ? DataType::kBF16 : name == "float16" ? DataType::kF16 : DataType::kF32;
  }
  return std::nullopt;
}

std::string as_sentence(const std::vector<std::string>& things, const std::string& program) {
  std::string text = program + " can't load:";
  for (const std::string& thing : things) text += (text.ends_with(":") ? " " : "; ") + thing;
  return text;
}

GgufMetadata metadata_for_gguf(const ModelSource& in, ConvertReport& report) {
  GgufMetadata keys = in.metadata();
  set_architecture(keys, in.architecture());
  if (in.folder().empty()) return keys;
  keys.set("general.quantization_version", uint32_t{2});
  const std::optional<DataType> type = type_of_config(in.config());
  keys.set("general.file_type", uint32_t{type == DataType::kF16 ? 1U : type == DataType::kBF16 ? 32U : 0U});
  const std::string note = add_files(keys, in.folder(), in.config(), in.architecture().vocab_size);
  if (!note.empty()) report.notes.push_back(note);
  return keys;
}

}  // namespace

ConvertReport convert_to_gguf(const ModelSource& in, const std::filesystem::path& out,
                              const ConvertOptions& options) {
  const std::vector<FileTensor> files = file_tensors(in.tensors(), FileFormat::kGguf);
  ConvertReport report;
  std::vector<TensorPlan> plans;
  for (const FileTensor& file : files) {
    const DataType common = common_type(in, file);
    plans.push_back(plan_of(in, file, is_f32_in_gguf(file) ? DataType::kF32 : options.type.value_or(common)));
  }
  const std::map<std::string, std::vector<float>> rotary = rotary_tensors(in.architecture());
  for (const auto& [name, values] : rotary)
    plans.push_back({.name = name, .shape = {std::ssize(values)}, .data = std::as_bytes(std::span(values))});
  const GgufMetadata keys = metadata_for_gguf(in, report);
  if (const auto beyond = beyond_llama_cpp(in.architecture()); !beyond.empty())
    report.notes.push_back(as_sentence(beyond, "llama.cpp"));
  finish_gguf(out, keys, std::move(plans), options, report);
  return report;
}

ConvertReport convert_to_folder(const ModelSource& in, const std::filesystem::path& folder,
                                const ConvertOptions& options) {
  const std::vector<FileTensor> files = file_tensors(in.tensors(), FileFormat::kHuggingFace);
  ConvertReport report;
  OrderedJson config = kept_config(in.metadata());
  if (config.empty()) config = in.config();
  config.erase("quantization_config");  // of packed types, which are not written
  const std::optional<DataType> told = type_of_config(config);
  std::vector<TensorPlan> plans;
  int64_t unpacked = 0;
  for (const FileTensor& file : files) {
    DataType type = common_type(in, file);
    if (options.type && file.shape.size() > 1) type = *options.type;
    if (is_packed(type)) type = DataType::kF32, ++unpacked;
    // GGUF holds vectors in F32, whatever they were.
    if (type == DataType::kF32 && told && *told != DataType::kF32 && !options.type && fits(in, file, *told))
      type = *told;
    plans.push_back(plan_of(in, file, type));
  }
  if (unpacked > 0)
    report.notes.push_back(fmt::format(
        "safetensors has no packed types: {} tensors are F32 now, with the same values", unpacked));
  if (const auto beyond = beyond_transformers(in.architecture()); !beyond.empty())
    report.notes.push_back(as_sentence(beyond, "Transformers"));
  finish_folder(folder, std::move(plans),
                {.beside = in.folder().empty() ? kept_files(in.metadata(), tokenizer_in(in.metadata()))
                                               : files_in(in.folder()),
                 .config = config_from_architecture(in.architecture(), config)},
                options, report);
  return report;
}

}  // namespace gatewright
