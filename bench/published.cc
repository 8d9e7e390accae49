#include "bench/published.h"

#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/random.h"
#include "gatewright/evaluate/generate.h"
#include "gatewright/models/families/convert.h"
#include "gatewright/models/families/random_source.h"
#include "gatewright/models/published_model.h"

namespace gatewright::bench {
namespace {

constexpr int64_t kPrompt = 512, kAnswer = 32, kLesson = 256;

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// A line of /proc/self/status, bytes.
double process_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) return 1024 * std::stod(line.substr(key.size() + 1));
  }
  fail("/proc/self/status has no {}: memory is measured on Linux only", key);
}

std::vector<int32_t> some_tokens(int64_t count, int64_t vocabulary) {
  RandomStream random(3, "tokens");
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& t : tokens) t = static_cast<int32_t>(random.next_u32() % static_cast<uint32_t>(vocabulary));
  return tokens;
}

/// Forward and backward to all routers.
void learn(Decoder& model, const std::vector<int32_t>& tokens) {
  int64_t routers = 0;
  for (const NamedTensor& p : model.parameters()) {
    const bool is_router = p.name.ends_with("mlp.gate.weight");
    if (!p.tensor.is_floating_point()) continue;
    Tensor tensor = p.tensor;
    tensor.set_requires_grad(is_router);
    routers += is_router;
  }
  const Tensor ids = at::tensor(at::ArrayRef<int32_t>(tokens.data(), tokens.size()), at::kLong);
  const DecoderOutput output = model.forward({.tokens = ids.unsqueeze(0)}, {.training = true});
  const Tensor logits = model.logits(output.hidden.reshape({-1, output.hidden.size(-1)}));
  at::cross_entropy_loss(logits.slice(0, 0, -1), ids.slice(0, 1)).backward();
  for (const NamedTensor& p : model.parameters()) routers -= p.tensor.grad().defined();
  require(routers == 0, "{} routers have no gradient", routers);
}

}  // namespace

PublishedRow measure_published(const Architecture& architecture, DataType type,
                               const std::filesystem::path& folder,
                               const std::function<void(const std::string&)>& at) {
  const std::filesystem::path file = folder / "bench-published.gguf";
  const struct Removed {
    const std::filesystem::path& file;
    ~Removed() {
      std::error_code error;
      std::filesystem::remove(file, error);
    }
  } removed{file};
  PublishedRow row;
  const auto note_memory = [&](double& most) { most = std::max(most, process_bytes("RssAnon")); };
  at("writing the file");
  row.write_seconds = seconds_of([&] { convert_to_gguf(RandomSource(architecture, type), file); });
  row.file_bytes = static_cast<double>(std::filesystem::file_size(file));
  at("loading it");
  std::optional<Decoder> model;
  row.load_seconds =
      seconds_of([&] { model.emplace(load_published(ModelFile(file), WeightStorage::kMapped)); });
  note_memory(row.run_own_bytes);
  std::vector<int32_t> tokens = some_tokens(kPrompt, architecture.vocab_size);
  {
    at("reading a prompt");
    CachedDecoder cached(*model);
    cached.logits_after(std::span(tokens).first(8));  // the file's pages are brought in
    row.prompt_tokens_per_second =
        static_cast<double>(kPrompt) / seconds_of([&] { CachedDecoder(*model).logits_after(tokens); });
    note_memory(row.run_own_bytes);
    at("answering");
    tokens.resize(64);
    cached.logits_after(tokens);
    row.decode_tokens_per_second = static_cast<double>(kAnswer) / seconds_of([&] {
                                     for (int64_t i = 0; i < kAnswer; ++i) {
                                       tokens.push_back(static_cast<int32_t>(i));
                                       cached.logits_after(tokens);
                                     }
                                   });
    note_memory(row.run_own_bytes);
  }
  at("teaching its routers");
  malloc_trim(0);  // another command would begin without what the answer took
  const std::vector<int32_t> lesson = some_tokens(kLesson, architecture.vocab_size);
  row.learn_tokens_per_second = static_cast<double>(kLesson) /
                                seconds_of([&] { learn(*model, lesson), note_memory(row.learn_own_bytes); });
  note_memory(row.learn_own_bytes);
  row.mapped_bytes = process_bytes("RssFile");
  return row;
}

}  // namespace gatewright::bench
