// What tests of training share: text that a model can learn, and a recipe that takes milliseconds.
#pragma once

#include <string>
#include <vector>

#include "gatewright/base/random.h"
#include "gatewright/text/bpe_trainer.h"
#include "gatewright/text/corpus.h"
#include "gatewright/train/recipe.h"
#include "gatewright/train/train.h"
#include "gatewright/train/trainer.h"
#include "gatewright/train/training_data.h"
#include "tests/testing.h"

namespace gatewright {

/// Sentences of a few words that follow one another by a rule, different in each of two domains.
inline std::vector<Document> small_documents(int64_t count = 8, uint64_t seed = 1) {
  const std::vector<std::string> words[2] = {{"the ", "gate ", "opens ", "slowly ", "at ", "dawn. "},
                                             {"int ", "x ", "= ", "y ", "+ ", "1;\n"}};
  RandomStream random(seed, "documents");
  std::vector<Document> documents;
  for (int64_t i = 0; i < count; ++i) {
    const size_t domain = static_cast<size_t>(i) % 2;
    Document document{.domain = domain ? "code" : "prose", .source = "", .text = std::to_string(i) + ": "};
    for (uint64_t w = 40 + random.below(60), at = random.below(6); w > 0; --w) {
      document.text += words[domain][at];
      at = random.below(8) == 0 ? random.below(6) : (at + 1) % 6;
    }
    documents.push_back(document);
  }
  return documents;
}

inline const Corpus& small_corpus() {
  static const Corpus corpus = Corpus::from_documents(small_documents(), {.validation_share = 0.2});
  return corpus;
}

/// One routed layer; twelve steps of four sequences of 16 tokens, a line of metrics each.
inline Recipe small_recipe(const std::vector<std::string>& settings = {}) {
  return make_recipe(R"(
seed = 5
[model]
vocab_size = 300
hidden_size = 32
num_layers = 1
num_heads = 4
[experts]
num_experts = 4
width = 16
[routing]
top_k = 2
weights = "renormalised"
[balance.switch]
weight = 0.01
[train]
steps = 12
batch_size = 4
sequence_length = 16
learning_rate = 0.01
warmup_steps = 2
log_every = 1
)",
                     "small", settings);
}

/// Keeps what it is told.
class Recorder : public Events {
 public:
  void note(std::string_view text) override { notes.emplace_back(text); }
  void warn(std::string_view text) override { warnings.emplace_back(text); }
  void metrics(const OrderedJson& row) override { rows.push_back(row); }

  std::vector<std::string> notes, warnings;
  std::vector<OrderedJson> rows;
};

/// A model, its data and a trainer, as train_model puts them together.
class Setting {
 public:
  explicit Setting(const std::vector<std::string>& settings)
      : recipe(small_recipe(settings)),
        data(prepare_data(small_corpus(), train_tokenizer(small_corpus(), 300, events), folder_.path(),
                          events)),
        model(with_vocabulary(recipe.model, data.tokenizer.vocab_size()), recipe.seed),
        stream(data.cache, recipe.train.sequence_length, data.token_bytes, recipe.seed),
        trainer(model, stream, recipe.train) {}

  ParameterList parameters() const { return model.parameters(); }

 private:
  static DecoderSpec with_vocabulary(DecoderSpec spec, int64_t size) {
    spec.vocab_size = size;
    return spec;
  }
  TemporaryFolder folder_;
  Recorder events;

 public:
  Recipe recipe;
  TrainingData data;
  Decoder model;
  TrainStream stream;
  Trainer trainer;
};

/// The machine loses its power when a line of metrics of this step is written.
struct PowerCut : std::exception {};
class CutAt : public Recorder {
 public:
  explicit CutAt(int64_t step) : step_(step) {}
  void metrics(const OrderedJson& row) override {
    Recorder::metrics(row);
    if (row["step"] == step_) throw PowerCut();
  }

 private:
  int64_t step_;
};

inline TrainOutcome train(const std::filesystem::path& out, const Recipe& recipe,
                          const Corpus& corpus = small_corpus()) {
  Recorder events;
  return train_model({.recipe = recipe, .out = out}, corpus, events);
}

inline void train_until_cut(const std::filesystem::path& out, const Recipe& recipe, int64_t step) {
  CutAt events(step);
  EXPECT_THROW(train_model({.recipe = recipe, .out = out}, small_corpus(), events), PowerCut);
}

}  // namespace gatewright
