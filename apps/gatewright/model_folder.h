// What the verbs that use a trained model share: the model with its tokenizer, and text prepared for it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "gatewright/base/json.h"
#include "gatewright/models/decoder.h"
#include "gatewright/models/families/model_file.h"
#include "gatewright/models/routing_overrides.h"
#include "gatewright/text/corpus.h"
#include "gatewright/text/packing.h"
#include "gatewright/text/tokenizer.h"

namespace gatewright::command {

struct Model {
  Decoder decoder;
  Tokenizer tokenizer;
};
/// A model folder, a GGUF file, or the name of a model in the cache folder; errors name the file. On the
/// device asked for; weights that stay packed are for the CPU.
Model load_model(const std::string& model, const std::string& device = "auto",
                 const RoutingOverrides& overrides = {});
/// The same of a published model that is open.
Model load_model(const ModelFile& file, const std::string& device = "auto",
                 const RoutingOverrides& overrides = {});
/// The same without its tokenizer, which a file may lack.
Decoder load_decoder_only(const std::string& model, const std::string& device,
                          const RoutingOverrides& overrides);

/// --experts-per-token, --selector, --omit and --force.
void add_overrides(Options& verb, RoutingOverrides& overrides);

/// All text of the paths as one validation part, tokenised.
class TextForModel {
 public:
  TextForModel(const std::vector<std::string>& paths, const Tokenizer& tokenizer);

  const TokenCache& cache() const { return *cache_; }
  /// Every token once, or about `most_tokens` of them, evenly spread.
  ValidationStream stream(int64_t sequence_length, int64_t most_tokens) const;

 private:
  std::optional<TokenCache> cache_;
  std::vector<int32_t> token_bytes_;
};

/// Says what was read and what was left out.
void tell_corpus(const Corpus& corpus);

std::vector<std::filesystem::path> as_paths(const std::vector<std::string>& texts);

}  // namespace gatewright::command
