#include "model_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/base/parallel.h"
#include "gatewright/formats/model_lookup.h"
#include "gatewright/models/checkpoint.h"
#include "gatewright/models/families/model_tokenizer.h"
#include "gatewright/models/published_model.h"
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

/// Packed weights are computed with on the CPU only: that is where they go when nobody says otherwise.
at::Device device_for(const fs::path& path, const std::string& device) {
  return is_published_model(path) && device == "auto" ? at::Device(at::kCPU) : choose_device(device);
}

Decoder load_on(const fs::path& path, const std::string& device, const RoutingOverrides& overrides) {
  Decoder decoder = load_decoder(path, [&](DecoderSpec& spec) { apply(overrides, spec); });
  decoder.to(device_for(path, device));
  return decoder;
}

Model checked(Decoder decoder, Tokenizer tokenizer, const fs::path& path) {
  if (tokenizer.vocab_size() > decoder.spec().vocab_size)
    fail("{}: the tokenizer has {} tokens and the model only {}: they don't belong together", path.string(),
         tokenizer.vocab_size(), decoder.spec().vocab_size);
  return {.decoder = std::move(decoder), .tokenizer = std::move(tokenizer)};
}

}  // namespace

Decoder load_decoder_only(const std::string& model, const std::string& device,
                          const RoutingOverrides& overrides) {
  return load_on(find_model(model), device, overrides);
}

Model load_model(const std::string& model, const std::string& device, const RoutingOverrides& overrides) {
  const fs::path path = find_model(model);
  const bool folder = fs::is_directory(path);
  if (folder && !fs::exists(path / "config.json"))
    fail("{} is not a model folder{}: it has no config.json", path.string(),
         fs::exists(path / "checkpoint") ? ", its training has not finished" : "");
  if (is_published_model(path)) return load_model(ModelFile(path), device, overrides);
  Tokenizer tokenizer = Tokenizer::load(path);
  return checked(load_on(path, device, overrides), std::move(tokenizer), path);
}

Model load_model(const ModelFile& file, const std::string& device, const RoutingOverrides& overrides) {
  Tokenizer tokenizer = tokenizer_of(file);
  Decoder decoder =
      load_published(file, WeightStorage::kMapped, [&](DecoderSpec& spec) { apply(overrides, spec); });
  decoder.to(device_for(file.path(), device));
  return checked(std::move(decoder), std::move(tokenizer), file.path());
}

void add_overrides(Options& verb, RoutingOverrides& o) {
  verb.add("--experts-per-token", o.experts_per_token,
           "[LAYERS:]N, another number of experts, such as 4 or 0-7:2")
      .repeated();
  verb.add("--selector", o.selectors, "[LAYERS:]NAME[:VALUE], another selector, such as top_p:0.7")
      .repeated();
  verb.add("--omit", o.omit, "LAYERS:IDS, experts that no token visits, such as 3:0,5").repeated();
  verb.add("--force", o.force, "LAYERS:IDS, experts that every token visits").repeated();
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
