#include "gatewright/train/file_start.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstring>
#include <set>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/hash.h"
#include "gatewright/formats/weight_fingerprint.h"
#include "gatewright/models/families/convert.h"
#include "gatewright/models/families/hf_config.h"
#include "gatewright/models/published_model.h"

namespace gatewright {
namespace {

namespace fs = std::filesystem;

/// Experts a token, where the selector has a fixed number.
std::optional<int64_t> top_k_of(const Piece& selector) {
  const auto found = selector.values.all().find("top_k");
  return found == selector.values.all().end() ? std::nullopt
                                              : std::optional(std::get<int64_t>(found->second));
}

uint64_t bytes_of(const std::map<std::string, TensorView>& tensors) {
  uint64_t bytes = 0;
  for (const auto& [name, view] : tensors) bytes += view.data.size();
  return bytes;
}

bool has_packed(const std::map<std::string, TensorView>& tensors) {
  for (const auto& [name, view] : tensors) {
    if (is_packed(view.dtype) || name.ends_with("_blocks")) return true;
  }
  return false;
}

uint64_t router_values(const DecoderSpec& spec) {
  uint64_t values = 0;
  for (const FeedForwardSpec& layer : spec.layers)
    values += layer.routed ? static_cast<uint64_t>(layer.num_experts * (spec.hidden_size + 1)) : 0;
  return values;
}

/// Whether the file has these values already.
bool is_unchanged(const ModelFile& file, const std::string& name, std::span<const float> values) {
  const ModelTensor& tensor = file.tensor(name);
  std::vector<float> before(values.size());
  file.read_values(tensor, 0, tensor.rows(), before);
  return std::memcmp(before.data(), values.data(), values.size_bytes()) == 0;
}

}  // namespace

FileStart::FileStart(const Recipe& recipe, const fs::path& path) : recipe_(recipe), file_(path) {
  if (only_routers() && !file_.architecture().first_routed())
    fail_usage(
        "{} has no routed layer, so train.parameters = \"routers\" leaves nothing to train; `gatewright "
        "upcycle` makes a mixture of a dense model",
        path.string());
  spec(0);  // the recipe's changes fit
}

std::string FileStart::fingerprint() const {
  const std::string shape = config_from_architecture(file_.architecture()).dump();
  return fmt::format("{}-{:016x}", weight_fingerprint(file_.file_tensors()), hash_bytes(shape));
}

DecoderSpec FileStart::spec(int64_t) const {
  DecoderSpec spec = decoder_spec(file_.architecture());
  apply(recipe_.routing, spec);
  return spec;
}

OutputSize FileStart::output_size() const {
  const DecoderSpec whole = spec(0);
  if (!only_routers()) return size_of_all(whole);
  return {.checkpoint = 3 * sizeof(float) * router_values(whole), .finished = bytes_of(file_.file_tensors())};
}

Decoder FileStart::make(int64_t vocab_size) const {
  check_vocabulary(file_.path(), vocab_size, spec(0));
  Decoder model = load_published(
      file_, only_routers() ? WeightStorage::kMapped : WeightStorage::kTrainable,
      [&](DecoderSpec& spec) { apply(recipe_.routing, spec); }, recipe_.seed);
  freeze(model, recipe_.train);
  return model;
}

std::vector<std::string> FileStart::notes(const Decoder& model) const {
  std::vector<std::string> notes;
  if (!only_routers() && has_packed(file_.file_tensors()))
    notes.push_back(
        fmt::format("the packed weights of {} were expanded to float32: {:.1f} GB, and as much again for "
                    "gradients and for "
                    "each of two moments; train.parameters = \"routers\" leaves them packed",
                    file_.path().string(), 4e-9 * static_cast<double>(count_parameters(model.spec()).total)));
  const DecoderSpec before = decoder_spec(file_.architecture());
  std::set<std::string> selectors;
  for (size_t i = 0; i < before.layers.size(); ++i) {
    const std::string& name = model.spec().layers[i].router.selector.name;
    if (before.layers[i].routed && name != before.layers[i].router.selector.name) selectors.insert(name);
  }
  if (!selectors.empty())
    notes.push_back(
        fmt::format("files of the family {} have no place for the selector {}: the verbs that run the "
                    "trained model need --selector",
                    file_.architecture().family, fmt::join(selectors, ", ")));
  return notes;
}

void FileStart::save_checkpoint(const fs::path& folder, const Decoder& model, const std::string&) const {
  save_trained(folder, model);
}

void FileStart::load_checkpoint(const fs::path& folder, const Decoder& model) const {
  load_trained(folder, model);
}

Architecture FileStart::architecture_of(const DecoderSpec& spec) const {
  Architecture result = file_.architecture();
  const DecoderSpec before = decoder_spec(result);
  for (size_t i = 0; i < result.layers.size(); ++i) {
    if (!result.layers[i].routed) continue;
    const Piece& selector = spec.layers[i].router.selector;
    if (selector.name == before.layers[i].router.selector.name)
      result.layers[i].routed->top_k = *top_k_of(selector);
  }
  return result;
}

void FileStart::save_finished(const fs::path& folder, const Decoder& model, const std::string&) const {
  std::vector<Tensor> kept;
  NewValues values;
  for (const NamedTensor& p : model.unfrozen_parameters()) {
    const Tensor& plain = kept.emplace_back(p.tensor.detach().to(at::kCPU, at::kFloat).contiguous());
    const std::span<const float> mine(plain.data_ptr<float>(), static_cast<size_t>(plain.numel()));
    if (!is_unchanged(file_, p.name, mine)) values[p.name] = mine;
  }
  const Architecture architecture = architecture_of(model.spec());
  if (!only_routers()) {
    convert_to_folder(*with_values(file_, std::move(values), architecture), folder);
    return;
  }
  make_folder(folder);
  rewrite(file_, values, architecture, file_.format() == FileFormat::kGguf ? folder / "model.gguf" : folder);
}

}  // namespace gatewright
