#include "model_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/base/parallel.h"
#include "gatewright/models/checkpoint.h"
#include "gatewright/report/terminal.h"
#include "gatewright/text/tokenized_corpus.h"
#include "gatewright/train/device.h"

namespace gatewright::command {

namespace fs = std::filesystem;

namespace {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "gatewright-XXXXXX").string();
    if (!mkdtemp(name.data()))
      fail("no temporary folder can be made in {}: {}", fs::temp_directory_path().string(),
           std::strerror(errno));
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace

Model load_model(const fs::path& folder, const std::string& device) {
  if (!fs::is_directory(folder)) fail("there is no model folder {}", folder.string());
  if (!fs::exists(folder / "config.json"))
    fail("{} is not a model folder{}: it has no config.json", folder.string(),
         fs::exists(folder / "checkpoint") ? ", its training has not finished" : "");
  Tokenizer tokenizer = Tokenizer::load(folder);
  Decoder decoder = load_decoder(folder);
  if (tokenizer.vocab_size() > decoder.spec().vocab_size)
    fail("{} has {} tokens and {} only {}: they don't belong together", (folder / "tokenizer.json").string(),
         tokenizer.vocab_size(), (folder / "config.json").string(), decoder.spec().vocab_size);
  decoder.to(choose_device(device));
  return {.decoder = std::move(decoder), .tokenizer = std::move(tokenizer)};
}

TextForModel::TextForModel(const std::vector<std::string>& paths, const Tokenizer& tokenizer)
    : token_bytes_(token_byte_lengths(tokenizer)) {
  const Corpus corpus = Corpus::read(as_paths(paths), {.validation_share = 1});
  // The cache is mapped: it lives on when its file is gone.
  catch_interrupts();
  const TemporaryFolder folder;
  Progress progress("tokenising", "MB", static_cast<double>(corpus.bytes()) / 1e6);
  cache_ = tokenize_corpus(folder.path(), tokenizer, corpus, [&](int64_t done, int64_t) {
    if (interrupted()) fail("interrupted before the end of the text");
    progress.update(static_cast<double>(done) / 1e6);
  });
}

ValidationStream TextForModel::stream(int64_t sequence_length, int64_t most_tokens) const {
  const int64_t sequences = most_tokens > 0 ? std::max<int64_t>(1, most_tokens / sequence_length) : 0;
  return ValidationStream(*cache_, sequence_length, token_bytes_, Part::kValidation, sequences);
}

void tell_corpus(const Corpus& corpus) {
  const ReadSummary& s = corpus.summary();
  std::string left_out;
  const auto add = [&](int64_t count, const char* what) {
    if (count) left_out += fmt::format("{}{} {}", left_out.empty() ? "; left out: " : ", ", count, what);
  };
  add(s.duplicates, "duplicates"), add(s.binary, "binary"), add(s.unreadable, "unreadable"),
      add(s.empty, "empty");
  note(fmt::format("text: {} documents, {}, domains {}{}", s.documents - s.duplicates,
                   short_size(static_cast<double>(corpus.bytes())), fmt::join(corpus.domains(), " "),
                   left_out));
}

std::vector<fs::path> as_paths(const std::vector<std::string>& texts) { return {texts.begin(), texts.end()}; }

}  // namespace gatewright::command
