#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/base/json.h"
#include "gatewright/formats/model_lookup.h"
#include "gatewright/models/encoder.h"
#include "gatewright/models/families/model_tokenizer.h"
#include "gatewright/report/terminal.h"
#include "gatewright/text/tokenizer.h"
#include "gatewright/train/device.h"
#include "tensor_verbs.h"

namespace gatewright::command {
namespace {

struct EmbedArguments {
  std::string model, input = "-", device = "auto";
  bool json = false;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const size_t size = end - begin - (end > begin && text[end - 1] == '\r' ? 1 : 0);
    lines.push_back(text.substr(begin, size));
    begin = end + 1;
  }
  return lines;
}

/// Token ids of each text with the marks around it; what is longer than the encoder's positions loses its end
/// but for the last mark.
std::vector<std::vector<int32_t>> tokens_of(const std::vector<std::string>& texts, const Tokenizer& tokenizer,
                                            size_t most) {
  std::vector<std::vector<int32_t>> all;
  size_t cut = 0;
  for (const std::string& text : texts) {
    std::vector<int32_t> ids = tokenizer.encode(text, {.add_special = true});
    require(!ids.empty(),
            "the tokenizer has no marks for the begin and end of a text, so an empty line has no tokens");
    if (ids.size() > most) {
      ids[most - 1] = ids.back();
      ids.resize(most);
      ++cut;
    }
    all.push_back(std::move(ids));
  }
  if (cut)
    note(fmt::format("{} of {} texts are longer than {} tokens; what is beyond was left out", cut,
                     texts.size(), most));
  return all;
}

/// Rows [N][H] in the order of the texts; computed in batches of texts of like length.
std::vector<std::vector<float>> embeddings_of(const Encoder& encoder,
                                              const std::vector<std::vector<int32_t>>& texts) {
  constexpr size_t kTokensPerBatch = 4096;
  std::vector<size_t> order(texts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) { return texts[i].size(); });
  std::vector<std::vector<float>> rows(texts.size());
  Progress progress("embedding", "texts", static_cast<double>(texts.size()));
  for (size_t begin = 0; begin < order.size();) {
    if (interrupted()) fail("interrupted after {} of {} texts", begin, texts.size());
    std::vector<std::vector<int32_t>> batch;
    size_t end = begin;
    while (end < order.size() &&
           (end == begin || (end - begin + 1) * texts[order[end]].size() <= kTokensPerBatch))
      batch.push_back(texts[order[end++]]);
    const Tensor values = encoder.embed(batch);
    for (size_t i = begin; i < end; ++i) {
      const float* row = values.data_ptr<float>() + static_cast<int64_t>(i - begin) * values.size(1);
      rows[order[i]].assign(row, row + values.size(1));
    }
    begin = end;
    progress.update(static_cast<double>(begin));
  }
  return rows;
}

std::pair<Encoder, Tokenizer> load(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path) || !is_gguf(path))
    return {load_encoder(path), Tokenizer::load(path)};
  const GgufFile file(path);
  return {load_encoder(file), tokenizer_of(file)};
}

void run(const EmbedArguments& a) {
  auto [encoder, tokenizer] = load(find_model(a.model));
  encoder.to(choose_device(a.device));
  const std::vector<std::string> texts = lines_of(read_file(a.input));
  catch_interrupts();
  const auto most = static_cast<size_t>(encoder.spec().max_positions);
  const std::vector<std::vector<float>> rows = embeddings_of(encoder, tokens_of(texts, tokenizer, most));
  if (!a.json) {
    for (const std::vector<float>& row : rows) print(fmt::format("{:.6f}\n", fmt::join(row, " ")));
    return;
  }
  OrderedJson json = OrderedJson::array();
  for (size_t i = 0; i < rows.size(); ++i) json.push_back({{"text", texts[i]}, {"embedding", rows[i]}});
  print(json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
}

}  // namespace

void add_embed(Options& verb) {
  const auto a = std::make_shared<EmbedArguments>();
  verb.add("MODEL", a->model, "folder, GGUF file or short name of a sentence encoder").required();
  verb.add("FILE", a->input, "texts, one a line; - for standard input").show_default();
  verb.add("--device", a->device, "auto, cpu or cuda").one_of({"auto", "cpu", "cuda"}).show_default();
  verb.flag("--json", a->json, "print [{\"text\", \"embedding\"}, ...]");
  add_threads(verb);
  verb.run([a] { run(*a); });
}

}  // namespace gatewright::command
