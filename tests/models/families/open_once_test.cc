// One open GGUF file serves whoever needs it: the model, its tokenizer, its container.
#include <gtest/gtest.h>

#include "gatewright/models/families/convert.h"
#include "gatewright/models/families/model_tokenizer.h"
#include "gatewright/text/bpe_trainer.h"
#include "gatewright/text/gguf_vocabulary.h"
#include "tests/models/families/random_model.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

TEST(ModelFile, SharesAGgufFileThatIsOpen) {
  BpeTrainer trainer;
  trainer.add("one two three one two");
  GgufMetadata keys;
  write_gguf_vocabulary(gguf_vocabulary(trainer.train({.vocab_size = 258}).tokenizer.definition()), keys);
  Architecture architecture = tiny_architecture("olmoe");
  architecture.vocab_size = 258;
  const TemporaryFolder folder;
  convert_to_gguf(RandomModel(architecture, keys), folder / "model.gguf");
  const auto file = std::make_shared<const GgufFile>(folder / "model.gguf");
  const ModelFile model(file), opened(folder / "model.gguf");
  EXPECT_EQ(model.gguf(), file);
  EXPECT_EQ(&model.file_tensors(), &file->tensors());
  EXPECT_EQ(model.path(), opened.path());
  EXPECT_EQ(model.architecture().layers, opened.architecture().layers);
  const uint64_t expected = Tokenizer::load(folder / "model.gguf").fingerprint();
  EXPECT_EQ(tokenizer_of(model).fingerprint(), expected);
  EXPECT_EQ(tokenizer_of(*file).fingerprint(), expected);
}

TEST(ModelFile, OfAFolderHasNoGgufFile) {
  const TemporaryFolder folder;
  convert_to_folder(RandomModel(tiny_architecture("olmoe")), folder / "hf");
  const ModelFile model(folder / "hf");
  EXPECT_EQ(model.gguf(), nullptr);
  EXPECT_NE(error_of([&] { tokenizer_of(model); }).find("has no tokenizer"), std::string::npos);
}

}  // namespace
}  // namespace gatewright
