// What the verbs that write a model share: progress, and the report of what was or would be written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "gatewright/models/families/convert.h"

namespace gatewright::command {

/// Writes NAME.gguf, or a folder under every other name, with progress; Ctrl-C leaves nothing under the final
/// names.
ConvertReport write_model(const ModelSource& model, const std::filesystem::path& out, ConvertOptions options);

/// Draws progress on the terminal until it is destroyed, and fails when the user interrupts.
std::function<void(uint64_t done, uint64_t total)> writing_progress();

struct ConversionOutput {
  std::string out;
  bool dry_run = false, json = false;
};
/// To standard error as text, to standard output as JSON; what a dry run would write always goes to standard
/// output. `heading`: what was made, "" for the number of tensors.
void tell_conversion(const ConvertReport& report, const ConversionOutput& output, const std::string& heading);

}  // namespace gatewright::command
