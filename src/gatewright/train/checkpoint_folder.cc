#include "gatewright/train/checkpoint_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/models/checkpoint.h"

namespace gatewright {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kLargestRecord = 16 << 20;
constexpr const char *kRecord = "training.json", *kMoments = "optimizer.safetensors",
                     *kWeights = "model.safetensors", *kTokenizer = "tokenizer.json",
                     *kConfig = "config.json", *kGguf = "model.gguf",
                     *kIndex = "model.safetensors.index.json";

TrainingRecord read_record(const fs::path& file) {
  const Json json = parse_json(read_file(file, kLargestRecord), file.string());
  try {
    require(json.at("settings").is_object() && json.at("progress").is_object(),
            "{} is damaged: its settings and its progress must be objects", file.string());
    return {.settings = json.at("settings").dump(),
            .data = json.at("data").get<std::string>(),
            .init = json.value("init", ""),
            .progress = json.at("progress")};
  } catch (const Json::exception&) {
    fail("{} is damaged: settings, data and progress were expected", file.string());
  }
}

void write_record(const fs::path& file, const TrainingRecord& record) {
  OrderedJson json = {{"settings", OrderedJson::parse(record.settings)}, {"data", record.data}};
  if (!record.init.empty()) json["init"] = record.init;
  json["progress"] = OrderedJson::parse(record.progress.dump());
  write_file(file, json.dump(2) + "\n");
}

}  // namespace

fs::path TrainingFolder::existing_checkpoint() const {
  // Between the two renames of a save, the old one has this name.
  for (const char* name : {"checkpoint", "checkpoint.old"}) {
    if (fs::exists(out_ / name / kRecord)) return out_ / name;
  }
  return {};
}

std::optional<TrainingRecord> TrainingFolder::finished() const {
  if (!fs::exists(out_ / kRecord)) return std::nullopt;
  return read_record(out_ / kRecord);
}

std::optional<TrainingRecord> TrainingFolder::checkpoint() const {
  const fs::path folder = existing_checkpoint();
  if (folder.empty()) return std::nullopt;
  return read_record(folder / kRecord);
}

bool TrainingFolder::has_foreign_model() const {
  // A training that ended while it wrote its model left its metrics, and perhaps a checkpoint.
  const bool ours = fs::exists(out_ / kRecord) || fs::exists(metrics()) || !existing_checkpoint().empty();
  return !ours && std::ranges::any_of(std::initializer_list<const char*>{kWeights, kIndex, kGguf, kConfig},
                                      [&](const char* name) { return fs::exists(out_ / name); });
}

void TrainingFolder::save_checkpoint(const std::function<void(const fs::path&)>& save_weights,
                                     const ParameterList& moments, const TrainingRecord& record) const {
  const fs::path partial = out_ / "checkpoint.partial", current = out_ / "checkpoint",
                 old = out_ / "checkpoint.old";
  std::error_code error;
  fs::remove_all(partial, error);
  save_weights(partial);
  write_weights(partial / kMoments, moments);
  write_record(partial / kRecord, record);
  if (fs::exists(current)) {
    fs::remove_all(old, error);
    fs::rename(current, old, error);
  }
  fs::rename(partial, current, error);
  if (error) fail("{} can't be renamed to {}: {}", partial.string(), current.string(), error.message());
  fs::remove_all(old, error);
}

void TrainingFolder::load_moments(const ParameterList& moments) const {
  read_weights(existing_checkpoint() / kMoments, moments);
}

Tokenizer TrainingFolder::checkpoint_tokenizer() const {
  return Tokenizer::load(existing_checkpoint() / kTokenizer);
}

void TrainingFolder::save_record(const TrainingRecord& record) const { write_record(out_ / kRecord, record); }

void TrainingFolder::remove_checkpoint() const {
  std::error_code error;
  for (const char* name : {"checkpoint.partial", "checkpoint", "checkpoint.old"})
    fs::remove_all(out_ / name, error);
}

void TrainingFolder::remove_all() const {
  remove_checkpoint();
  std::error_code error;
  for (const char* name : {kRecord, kWeights, kIndex, kGguf, kTokenizer, kConfig, "metrics.jsonl"})
    fs::remove(out_ / name, error);
  std::vector<fs::path> shards;
  for (const auto& entry : fs::directory_iterator(out_, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("model-") && name.ends_with(".safetensors")) shards.push_back(entry.path());
  }
  for (const fs::path& shard : shards) fs::remove(shard, error);
}

void TrainingFolder::truncate_metrics(int64_t step) const {
  if (!fs::exists(metrics())) return;
  const std::string all = read_file(metrics());
  std::string kept;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = all.find('\n', begin);
    if (end == std::string::npos) break;  // cut off while it was written
    const std::string line = all.substr(begin, end - begin);
    const Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto at = row.is_object() ? row.find("step") : row.end();
    if (at == row.end() || !at->is_number_integer() || at->get<int64_t>() > step) break;
    kept += line + "\n";
    begin = end + 1;
  }
  write_file(metrics(), kept);
}

}  // namespace gatewright
