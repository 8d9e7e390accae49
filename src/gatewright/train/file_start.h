// Trainings that go on with a published model's file. With train.parameters = "routers" its weights stay
// where and as they are, and only the routers are in memory as float32.
#pragma once

#include "gatewright/models/families/model_tokenizer.h"
#include "gatewright/models/families/rewrite.h"
#include "gatewright/train/starting_model.h"

namespace gatewright {

class FileStart : public StartingModel {
 public:
  /// `recipe` is borrowed.
  FileStart(const Recipe& recipe, const std::filesystem::path& path);

  std::filesystem::path source() const override { return file_.path(); }
  std::string fingerprint() const override;
  std::optional<Tokenizer> tokenizer() const override { return tokenizer_of(file_); }
  DecoderSpec spec(int64_t vocab_size) const override;
  OutputSize output_size() const override;
  Decoder make(int64_t vocab_size) const override;
  std::vector<std::string> notes(const Decoder& model) const override;
  void save_checkpoint(const std::filesystem::path& folder, const Decoder& model,
                       const std::string& tokenizer_json) const override;
  void load_checkpoint(const std::filesystem::path& folder, const Decoder& model) const override;
  /// Routers alone: the file again, in its format (a GGUF file is model.gguf). Otherwise a Hugging Face
  /// folder, what was trained in F32.
  void save_finished(const std::filesystem::path& folder, const Decoder& model,
                     const std::string& tokenizer_json) const override;

 private:
  bool only_routers() const { return recipe_.train.parameters == "routers"; }
  Architecture architecture_of(const DecoderSpec& spec) const;

  const Recipe& recipe_;
  ModelFile file_;
};

// What starting models share.

/// Of a training of all weights in float32.
OutputSize size_of_all(const DecoderSpec& spec);
/// What train.parameters and train.freeze say.
void freeze(Decoder& model, const TrainOptions& options);
void check_vocabulary(const std::filesystem::path& path, int64_t vocab_size, const DecoderSpec& spec);
/// trained.safetensors: what is not frozen.
void save_trained(const std::filesystem::path& folder, const Decoder& model);
void load_trained(const std::filesystem::path& folder, const Decoder& model);

}  // namespace gatewright
