#include "gatewright/models/families/convert_output.h"

#include <memory>

#include "gatewright/base/file.h"
#include "gatewright/formats/gguf.h"
#include "gatewright/formats/safetensors_folder.h"

namespace gatewright {
namespace {

uint64_t bytes_of(const TensorPlan& plan) {
  return static_cast<uint64_t>(tensor_bytes(plan.dtype, plan.shape, plan.name));
}

void add_file(ConvertReport& report, const std::string& name, uint64_t bytes,
              std::span<const TensorPlan> plans = {}) {
  ConvertedFile file{.name = name, .bytes = bytes};
  for (const TensorPlan& plan : plans)
    file.tensors.push_back(
        {.name = plan.name, .shape = plan.shape, .type = plan.dtype, .bytes = bytes_of(plan)});
  report.bytes += bytes;
  report.tensors += std::ssize(plans);
  report.files.push_back(std::move(file));
}

/// Progress over all tensors.
std::vector<TensorPlan> with_progress(std::vector<TensorPlan> plans, const ConvertOptions& options) {
  if (!options.progress) return plans;
  struct State {
    uint64_t done = 0, total = 0;
  };
  const auto state = std::make_shared<State>();
  for (const TensorPlan& plan : plans) state->total += bytes_of(plan);
  for (TensorPlan& plan : plans) {
    plan.produce = [plan, state, progress = options.progress](const ByteSink& sink) {
      write_tensor(plan, [&](std::span<const std::byte> bytes) {
        sink(bytes);
        state->done += bytes.size();
        progress(state->done, state->total);
      });
    };
  }
  return plans;
}

}  // namespace

void finish_gguf(const std::filesystem::path& out, const GgufMetadata& keys, std::vector<TensorPlan> plans,
                 const ConvertOptions& options, ConvertReport& report) {
  add_file(report, out.filename().string(), gguf_size(keys, plans), plans);
  if (!options.dry_run) write_gguf(out, keys, with_progress(std::move(plans), options));
}

void finish_folder(const std::filesystem::path& folder, std::vector<TensorPlan> plans,
                   const FolderTexts& texts, const ConvertOptions& options, ConvertReport& report) {
  const std::string config = texts.config.dump(2) + "\n";
  for (const FolderFile& file : safetensors_folder_files(plans))
    add_file(report, file.name, file.bytes, file.tensors);
  for (const auto& [name, text] : texts.beside) add_file(report, name, text.size());
  add_file(report, "config.json", config.size());
  if (options.dry_run) return;
  make_folder(folder);
  write_safetensors_folder(folder, with_progress(std::move(plans), options));
  for (const auto& [name, text] : texts.beside) write_file(folder / name, text);
  write_file(folder / "config.json", config);
}

}  // namespace gatewright
