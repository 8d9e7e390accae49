#include "conversion.h"

#include <fmt/format.h>

#include <map>
#include <memory>
#include <optional>

#include "command.h"
#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/base/json.h"
#include "gatewright/report/terminal.h"

namespace gatewright::command {
namespace {

OrderedJson json_of(const ConvertedFile& file) {
  OrderedJson tensors = OrderedJson::array();
  for (const ConvertedTensor& t : file.tensors)
    tensors.push_back(
        {{"name", t.name}, {"shape", t.shape}, {"type", data_type_name(t.type)}, {"bytes", t.bytes}});
  return {{"name", file.name}, {"bytes", file.bytes}, {"tensors", tensors}};
}

OrderedJson json_of(const ConvertReport& report, const ConversionOutput& output) {
  OrderedJson files = OrderedJson::array();
  for (const ConvertedFile& file : report.files) files.push_back(json_of(file));
  return {{"out", output.out},     {"dry_run", output.dry_run}, {"tensors", report.tensors},
          {"bytes", report.bytes}, {"notes", report.notes},     {"files", files}};
}

/// "model.gguf  3.2 MB", and below it a line for each type of its tensors.
std::string table_of(const ConvertReport& report) {
  struct Row {
    int64_t tensors = 0;
    uint64_t bytes = 0;
  };
  std::string text;
  for (const ConvertedFile& file : report.files) {
    text += fmt::format("{:<34} {:>9}\n", file.name, short_size(static_cast<double>(file.bytes)));
    std::map<DataType, Row> types;
    for (const ConvertedTensor& tensor : file.tensors) {
      ++types[tensor.type].tensors;
      types[tensor.type].bytes += tensor.bytes;
    }
    for (const auto& [type, row] : types)
      text += fmt::format("  {:<10} {:>5} tensors {:>22}\n", data_type_name(type), row.tensors,
                          short_size(static_cast<double>(row.bytes)));
  }
  return text;
}

}  // namespace

std::function<void(uint64_t done, uint64_t total)> writing_progress() {
  catch_interrupts();
  return [progress = std::make_shared<std::optional<Progress>>()](uint64_t done, uint64_t total) {
    if (interrupted()) fail("interrupted; nothing was written");
    if (!*progress) progress->emplace("writing", "MB", static_cast<double>(total) / 1e6);
    (*progress)->update(static_cast<double>(done) / 1e6);
  };
}

ConvertReport write_model(const ModelSource& model, const std::filesystem::path& out,
                          ConvertOptions options) {
  options.progress = writing_progress();
  return out.extension() == ".gguf" ? convert_to_gguf(model, out, options)
                                    : convert_to_folder(model, out, options);
}

void tell_conversion(const ConvertReport& report, const ConversionOutput& output,
                     const std::string& heading) {
  if (output.json)
    return print(json_of(report, output).dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
  const std::string made = heading.empty() ? fmt::format("{} tensors", report.tensors) : heading;
  const std::string size = short_size(static_cast<double>(report.bytes));
  if (output.dry_run)
    print(table_of(report) +
          fmt::format("{} would be written: {}, {}; nothing was written\n", output.out, made, size));
  else
    note(fmt::format("{}: {}, {}", output.out, made, size));
  for (const std::string& line : report.notes) note(line);
}

}  // namespace gatewright::command
