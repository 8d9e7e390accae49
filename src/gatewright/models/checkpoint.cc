#include "gatewright/models/checkpoint.h"

#include <fmt/ranges.h>

#include <cstring>
#include <set>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/quoted.h"
#include "gatewright/base/words.h"
#include "gatewright/formats/safetensors.h"
#include "gatewright/models/configuration_json.h"
#include "gatewright/models/published_model.h"

namespace gatewright {
namespace {

constexpr uint64_t kLargestModelConfig = 16 << 20;

/// One tensor of the file and where it lives in a parameter.
struct Slice {
  std::string name;
  Tensor tensor;  // contiguous float32 on the CPU, a view of the parameter when it is that already
};

std::string replaced(const std::string& pattern, int64_t index) {
  std::string name = pattern;
  return name.replace(name.find("{}"), 2, std::to_string(index));
}

std::vector<Slice> slices(const ParameterList& parameters) {
  std::vector<Slice> result;
  for (const NamedTensor& p : parameters) {
    const Tensor plain = p.tensor.detach().to(at::kCPU, at::kFloat).contiguous();
    if (p.name.find("{}") == std::string::npos) {
      result.push_back({p.name, plain});
      continue;
    }
    for (int64_t e = 0; e < plain.size(0); ++e) result.push_back({replaced(p.name, e), plain[e]});
  }
  return result;
}

TensorView view_of(const Slice& slice) {
  const Tensor& t = slice.tensor;
  return {
      .name = slice.name,
      .dtype = DataType::kF32,
      .shape = t.sizes().vec(),
      .data = {static_cast<const std::byte*>(t.data_ptr()), static_cast<size_t>(t.numel()) * sizeof(float)}};
}

std::vector<TensorView> views_of(const std::vector<Slice>& all) {
  std::vector<TensorView> views;
  for (const Slice& s : all) views.push_back(view_of(s));
  return views;
}

at::ScalarType scalar_type(DataType type, const std::string& name, const std::string& file) {
  switch (type) {
    case DataType::kF32:
      return at::kFloat;
    case DataType::kF16:
      return at::kHalf;
    case DataType::kBF16:
      return at::kBFloat16;
    default:
      fail("{}: {} is of a type that is no weight's; F32, F16 and BF16 are", file, name);
  }
}

void copy_in(const TensorView& from, const Tensor& to, const std::string& file) {
  const at::ScalarType type = scalar_type(from.dtype, from.name, file);
  Tensor staged = at::empty(to.sizes(), type);
  std::memcpy(staged.data_ptr(), from.data.data(), from.data.size());
  to.copy_(staged);
}

/// Before a model is built that the weights could not fill.
void check_sizes_agree(const DecoderSpec& spec, const std::filesystem::path& config,
                       const std::filesystem::path& weights) {
  constexpr uint64_t kLeastBytes = 2;  // of a weight
  const auto parameters = static_cast<uint64_t>(count_parameters(spec).total);
  const uint64_t size = std::filesystem::file_size(weights);
  require(parameters <= size / kLeastBytes,
          "{} describes a model of {} parameters, which the {} bytes of {} can't hold", config.string(),
          parameters, size, weights.string());
}

}  // namespace

uint64_t model_file_size(const ParameterList& parameters) {
  return safetensors_size(views_of(slices(parameters)), {{"format", "pt"}});
}

void write_weights(const std::filesystem::path& file, const ParameterList& parameters) {
  const std::vector<Slice> all = slices(parameters);
  write_safetensors(file, views_of(all), {{"format", "pt"}});
}

namespace {

/// What the file lacks is a problem, or else (`may_lack`) stays as it is.
void read_into(const std::filesystem::path& file, const ParameterList& parameters, bool may_lack) {
  const at::NoGradGuard no_grad;
  const SafetensorsFile in(file);
  std::vector<std::string> problems;
  std::set<std::string> expected;
  const auto take = [&](const std::string& name, const Tensor& to) {
    expected.insert(name);
    const auto it = in.tensors().find(name);
    if (it == in.tensors().end()) {
      if (!may_lack) problems.push_back(fmt::format("{} is missing", name));
    } else if (!to.sizes().equals(it->second.shape)) {
      problems.push_back(fmt::format("{} has shape [{}], [{}] is expected", name,
                                     fmt::join(it->second.shape, ", "), fmt::join(to.sizes(), ", ")));
    } else {
      copy_in(it->second, to, file.string());
    }
  };
  for (const NamedTensor& p : parameters) {
    if (p.name.find("{}") == std::string::npos) {
      take(p.name, p.tensor);
      continue;
    }
    for (int64_t e = 0; e < p.tensor.size(0); ++e) take(replaced(p.name, e), p.tensor[e]);
  }
  for (const auto& [name, view] : in.tensors()) {
    if (!expected.contains(name))
      problems.push_back(fmt::format("{} belongs to no layer or expert of it", Quoted{name}));
  }
  if (problems.empty()) return;
  fail("{} does not fit {}: {}", file.string(), may_lack ? "the recipe's model" : "its config.json",
       first_of(problems, 5));
}

}  // namespace

void read_weights(const std::filesystem::path& file, const ParameterList& parameters) {
  read_into(file, parameters, /*may_lack=*/false);
}

void read_shared_weights(const std::filesystem::path& file, const ParameterList& parameters) {
  read_into(file, parameters, /*may_lack=*/true);
}

void save_model(const std::filesystem::path& folder, const Decoder& model, std::string_view tokenizer_json) {
  make_folder(folder);
  write_weights(folder / "model.safetensors", model.parameters());
  write_file(folder / "tokenizer.json", tokenizer_json);
  write_file(folder / "config.json", to_config_json(model.spec()).dump(2) + "\n");
}

DecoderSpec read_spec(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) fail("there is no model folder {}", folder.string());
  const std::filesystem::path config = folder / "config.json", weights = folder / "model.safetensors";
  if (!std::filesystem::exists(weights))
    fail("{} has no model.safetensors: it is not a model folder, or its training has not finished",
         folder.string());
  DecoderSpec spec = parse_config_json(read_file(config, kLargestModelConfig), config.string());
  check_sizes_agree(spec, config, weights);
  return spec;
}

Decoder load_decoder(const std::filesystem::path& folder, const std::function<void(DecoderSpec&)>& change,
                     uint64_t seed) {
  if (is_published_model(folder))
    return load_published(ModelFile(folder), WeightStorage::kMapped, change, seed);
  DecoderSpec spec = read_spec(folder);
  if (change) change(spec);
  Decoder model(std::move(spec), seed);
  read_weights(folder / "model.safetensors", model.parameters());
  return model;
}

}  // namespace gatewright
