#include "gatewright/train/starting_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/hash.h"
#include "gatewright/formats/model_lookup.h"
#include "gatewright/formats/safetensors_folder.h"
#include "gatewright/formats/weight_fingerprint.h"
#include "gatewright/models/checkpoint.h"
#include "gatewright/train/file_start.h"

namespace gatewright {
namespace {

namespace fs = std::filesystem;

std::string fingerprint_of_weights(const fs::path& folder) {
  return weight_fingerprint(SafetensorsFolder(folder).tensors());
}

/// The recipe's own model, with random weights or, under the names that it shares, with those of a folder.
class RandomStart : public StartingModel {
 public:
  explicit RandomStart(const Recipe& recipe) : recipe_(recipe) {
    if (recipe_.train.base.empty()) return;
    base_ = find_model(recipe_.train.base);
    if (!fs::exists(base_ / "model.safetensors"))
      fail("train.base = {}: a model folder with model.safetensors was expected", base_.string());
  }

  fs::path source() const override { return base_; }
  std::string fingerprint() const override { return base_.empty() ? "" : fingerprint_of_weights(base_); }
  std::optional<Tokenizer> tokenizer() const override {
    return base_.empty() ? std::nullopt : std::optional(Tokenizer::load(base_));
  }
  DecoderSpec spec(int64_t vocab_size) const override {
    DecoderSpec spec = recipe_.model;
    spec.vocab_size = vocab_size;
    return spec;
  }
  OutputSize output_size() const override { return size_of_all(recipe_.model); }

  Decoder make(int64_t vocab_size) const override {
    Decoder model(spec(vocab_size), recipe_.seed);
    if (!base_.empty()) read_shared_weights(base_ / "model.safetensors", model.parameters());
    freeze(model, recipe_.train);
    return model;
  }
  std::vector<std::string> notes(const Decoder&) const override { return {}; }

  void save_checkpoint(const fs::path& folder, const Decoder& model,
                       const std::string& tokenizer_json) const override {
    save_model(folder, model, tokenizer_json);
  }
  void load_checkpoint(const fs::path& folder, const Decoder& model) const override {
    read_weights(folder / "model.safetensors", model.parameters());
  }
  void save_finished(const fs::path& folder, const Decoder& model,
                     const std::string& tokenizer_json) const override {
    save_model(folder, model, tokenizer_json);
  }

 private:
  const Recipe& recipe_;
  fs::path base_;
};

/// A model folder of ours.
class FolderStart : public StartingModel {
 public:
  FolderStart(const Recipe& recipe, fs::path folder)
      : recipe_(recipe), folder_(std::move(folder)), spec_(read_spec(folder_)) {
    apply(recipe_.routing, spec_);
  }

  fs::path source() const override { return folder_; }
  std::string fingerprint() const override {
    return fmt::format("{}-{:016x}", fingerprint_of_weights(folder_),
                       hash_bytes(read_file(folder_ / "config.json")));
  }
  std::optional<Tokenizer> tokenizer() const override { return Tokenizer::load(folder_); }
  DecoderSpec spec(int64_t) const override { return spec_; }
  OutputSize output_size() const override { return size_of_all(spec_); }

  Decoder make(int64_t vocab_size) const override {
    check_vocabulary(folder_, vocab_size, spec_);
    Decoder model = load_decoder(
        folder_, [&](DecoderSpec& spec) { apply(recipe_.routing, spec); }, recipe_.seed);
    freeze(model, recipe_.train);
    return model;
  }
  std::vector<std::string> notes(const Decoder&) const override { return {}; }

  void save_checkpoint(const fs::path& folder, const Decoder& model, const std::string&) const override {
    save_trained(folder, model);
  }
  void load_checkpoint(const fs::path& folder, const Decoder& model) const override {
    load_trained(folder, model);
  }
  void save_finished(const fs::path& folder, const Decoder& model,
                     const std::string& tokenizer_json) const override {
    save_model(folder, model, tokenizer_json);
  }

 private:
  const Recipe& recipe_;
  fs::path folder_;
  DecoderSpec spec_;
};

constexpr const char* kTrained = "trained.safetensors";

}  // namespace

OutputSize size_of_all(const DecoderSpec& spec) {
  const auto weights = static_cast<uint64_t>(count_parameters(spec).total) * sizeof(float);
  return {.checkpoint = 3 * weights, .finished = weights};
}

void freeze(Decoder& model, const TrainOptions& options) {
  if (options.parameters == "routers") model.freeze_all_but_routers();
  model.freeze(options.freeze);
  if (std::ranges::none_of(model.parameters(), &NamedTensor::trainable))
    fail_usage("train.freeze leaves no parameter to train");
}

void check_vocabulary(const fs::path& path, int64_t vocab_size, const DecoderSpec& spec) {
  require(vocab_size <= spec.vocab_size,
          "{}: the tokenizer has {} tokens and the model only {}: they don't belong together", path.string(),
          vocab_size, spec.vocab_size);
}

void save_trained(const fs::path& folder, const Decoder& model) {
  make_folder(folder);
  write_weights(folder / kTrained, model.unfrozen_parameters());
}

void load_trained(const fs::path& folder, const Decoder& model) {
  read_weights(folder / kTrained, model.unfrozen_parameters());
}

std::unique_ptr<StartingModel> starting_model(const Recipe& recipe) {
  if (recipe.train.init.empty()) return std::make_unique<RandomStart>(recipe);
  const fs::path path = find_model(recipe.train.init);
  if (is_published_model(path)) return std::make_unique<FileStart>(recipe, path);
  return std::make_unique<FolderStart>(recipe, path);
}

}  // namespace gatewright
