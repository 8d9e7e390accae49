#include "gatewright/models/families/rewrite.h"

#include <algorithm>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/formats/gguf.h"
#include "gatewright/formats/safetensors_folder.h"
#include "gatewright/models/families/convert_files.h"
#include "gatewright/models/families/gguf_config.h"
#include "gatewright/models/families/hf_config.h"

namespace gatewright {
namespace {

namespace fs = std::filesystem;

/// What programs load the weights as: no value is rounded.
void set_float32(OrderedJson& config) {
  for (const char* key : {"dtype", "torch_dtype"})
    if (config.contains(key)) config[key] = "float32";
}

class WithValues : public ModelSource {
 public:
  WithValues(const ModelFile& file, NewValues values, const Architecture& architecture)
      : file_(file),
        values_(std::move(values)),
        architecture_(architecture),
        metadata_(file.metadata()),
        config_(file.config()) {
    for (const auto& [name, given] : values_) {
      const ModelTensor& tensor = file_.tensor(name);
      require(std::ssize(given) == tensor.rows() * tensor.columns(), "{} has {} values, {} were given", name,
              tensor.rows() * tensor.columns(), given.size());
    }
    set_float32(config_);
    if (const std::string kept = metadata_.text_or(kConfigKey, ""); !kept.empty()) {
      OrderedJson config = OrderedJson::parse(parse_json(kept, kConfigKey).dump());
      set_float32(config);
      metadata_.set(kConfigKey, config.dump());
    }
  }

  const Architecture& architecture() const override { return architecture_; }
  const std::vector<ModelTensor>& tensors() const override { return file_.tensors(); }
  const GgufMetadata& metadata() const override { return metadata_; }
  const OrderedJson& config() const override { return config_; }
  fs::path folder() const override { return file_.folder(); }

  DataType type_of(const ModelTensor& tensor) const override {
    return values_.contains(tensor.name) ? DataType::kF32 : file_.type_of(tensor);
  }
  std::span<const std::byte> rows(const ModelTensor& tensor, int64_t first, int64_t count,
                                  std::vector<std::byte>& storage) const override {
    const auto found = values_.find(tensor.name);
    if (found == values_.end()) return file_.rows(tensor, first, count, storage);
    return std::as_bytes(found->second.subspan(static_cast<size_t>(first * tensor.columns()),
                                               static_cast<size_t>(count * tensor.columns())));
  }

 private:
  const ModelFile& file_;
  NewValues values_;
  Architecture architecture_;
  GgufMetadata metadata_;
  OrderedJson config_;
};

/// The tensor of the file that holds this one and nothing else.
std::string name_in_file(const ModelFile& file, const ModelTensor& tensor) {
  for (const std::vector<RowRange>& ranges : tensor.in(file.format())) {
    if (ranges.size() != 1 || !file.file_tensors().contains(ranges[0].tensor)) continue;
    const RowRange& range = ranges[0];
    const auto bytes = tensor_bytes(DataType::kF32, range.shape, range.tensor);
    if (range.layout == RowLayout::kPlain && range.step == 1 && range.first == 0 &&
        bytes == static_cast<int64_t>(sizeof(float)) * tensor.rows() * tensor.columns())
      return range.tensor;
  }
  fail("{}: {} lies in one tensor with others, where it can't be replaced", file.path().string(),
       tensor.name);
}

/// By the names of the file.
std::map<std::string, std::span<const float>> by_file_name(const ModelFile& file, const NewValues& values) {
  std::map<std::string, std::span<const float>> result;
  for (const auto& [name, given] : values) {
    const std::string theirs = name_in_file(file, file.tensor(name));
    require(tensor_bytes(DataType::kF32, file.file_tensors().at(theirs).shape, theirs) ==
                static_cast<int64_t>(given.size_bytes()),
            "{} has other values than {} in number", name, theirs);
    result[theirs] = given;
  }
  return result;
}

/// `In` has tensors() and release(), and is mapped: what was written leaves memory again.
template <typename In>
std::vector<TensorPlan> plans_of(const In& in, const std::vector<std::string>& order,
                                 const std::map<std::string, std::span<const float>>& values) {
  std::vector<TensorPlan> plans;
  for (const std::string& name : order) {
    TensorPlan plan = plan_of(in.tensors().at(name));
    if (const auto found = values.find(name); found != values.end()) {
      plan.dtype = DataType::kF32;
      plan.data = std::as_bytes(found->second);
    } else {
      plan.produce = [&in, data = plan.data](const ByteSink& sink) {
        sink(data);
        in.release(data);
      };
    }
    plans.push_back(std::move(plan));
  }
  return plans;
}

void rewrite_gguf(const ModelFile& file, const std::map<std::string, std::span<const float>>& values,
                  const Architecture& architecture, const fs::path& out) {
  const GgufFile& in = *file.gguf();
  GgufMetadata keys = in.metadata();
  if (architecture.layers != file.architecture().layers) set_architecture(keys, architecture);
  write_gguf(out, keys, plans_of(in, in.order(), values));
}

/// Tokenizer, chat template, settings of generation and the like.
void copy_small_files(const fs::path& from, const fs::path& to) {
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    const bool small = name.ends_with(".json") || name.ends_with(".txt") || name.ends_with(".model") ||
                       name.ends_with(".jinja");
    const bool of_weights = name == "config.json" || name.ends_with(".safetensors.index.json") ||
                            name.ends_with(".bin.index.json");
    if (small && !of_weights && !name.starts_with('.') && entry.is_regular_file())
      write_file(to / name, read_file(entry.path(), kLargestText));
  }
}

void rewrite_folder(const ModelFile& file, const std::map<std::string, std::span<const float>>& values,
                    const Architecture& architecture, const fs::path& out) {
  const SafetensorsFolder in(file.path());
  std::vector<std::string> order;
  for (const auto& [name, view] : in.tensors()) order.push_back(name);
  make_folder(out);
  write_safetensors_folder(out, plans_of(in, order, values), in.metadata());
  copy_small_files(file.path(), out);
  const bool same = architecture.layers == file.architecture().layers;
  write_file(out / "config.json", same
                                      ? read_file(file.path() / "config.json", kLargestText)
                                      : config_from_architecture(architecture, file.config()).dump(2) + "\n");
}

}  // namespace

std::unique_ptr<ModelSource> with_values(const ModelFile& file, NewValues values,
                                         const Architecture& architecture) {
  return std::make_unique<WithValues>(file, std::move(values), architecture);
}

void rewrite(const ModelFile& file, const NewValues& values, const Architecture& architecture,
             const fs::path& out) {
  const auto by_name = by_file_name(file, values);
  file.format() == FileFormat::kGguf ? rewrite_gguf(file, by_name, architecture, out)
                                     : rewrite_folder(file, by_name, architecture, out);
}

}  // namespace gatewright
