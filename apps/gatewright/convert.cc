#include "gatewright/models/families/convert.h"

#include <fmt/format.h>

#include "conversion.h"
#include "core_verbs.h"
#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"
#include "gatewright/formats/model_lookup.h"
#include "gatewright/models/families/convert_encoder.h"
#include "gatewright/models/families/model_file.h"

namespace gatewright::command {
namespace {

namespace fs = std::filesystem;

struct ConvertArguments {
  std::string in, out, type = "same", tokenizer;
  bool json = false, dry_run = false;
};

ConvertReport convert_published(const ConvertArguments& a, const fs::path& in, const fs::path& out) {
  ConvertOptions options;
  if (a.type != "same") options.type = parse_data_type(a.type);
  options.dry_run = a.dry_run;
  if (!fs::is_regular_file(in)) {
    if (!is_encoder(in)) return write_model(ModelFile(in), out, options);
    options.progress = writing_progress();
    return convert_encoder(in, out, options);
  }
  const auto file = std::make_shared<const GgufFile>(in);
  if (!is_encoder(*file)) return write_model(ModelFile(file), out, options);
  options.progress = writing_progress();
  return convert_encoder(*file, out, options);
}

/// The vocabulary of a llama2.c checkpoint: the file given, or the one that is beside it.
fs::path vocabulary_beside(const ConvertArguments& a, const fs::path& in) {
  if (!a.tokenizer.empty()) return a.tokenizer;
  const fs::path beside = in.parent_path() / "tokenizer.bin";
  return fs::exists(beside) ? beside : fs::path();
}

void convert(const ConvertArguments& a) {
  const fs::path in = find_model(a.in), out = a.out;
  const bool to_gguf = out.extension() == ".gguf";
  if (to_gguf && fs::is_directory(out)) fail_usage("{} is a folder, a file was expected", out.string());
  if (!to_gguf && fs::exists(out) && !fs::is_directory(out))
    fail_usage("{} is a file: a name that ends in .gguf makes a GGUF file, every other one a folder",
               out.string());
  if (fs::exists(out) && fs::equivalent(in, out)) fail_usage("{} can't be written over itself", in.string());
  ConvertReport report;
  if (is_llama2c(in)) {
    if (!to_gguf) fail_usage("a checkpoint of llama2.c is converted to a name that ends in .gguf");
    report = convert_llama2c(in, vocabulary_beside(a, in), out,
                             {.dry_run = a.dry_run, .progress = writing_progress()});
  } else {
    report = convert_published(a, in, out);
  }
  tell_conversion(report, {.out = a.out, .dry_run = a.dry_run, .json = a.json}, "");
}

}  // namespace

void add_convert(Options& verb) {
  const auto a = std::make_shared<ConvertArguments>();
  verb.add("IN", a->in, "GGUF file, model folder with config.json, or a checkpoint of llama2.c").required();
  verb.add("OUT", a->out, "what to write: NAME.gguf, or a folder").required();
  verb.add("--type", a->type,
           "of the matrices: as they are (same), or f32, f16, bf16; `quantize` has the packed ones")
      .one_of({"same", "f32", "f16", "bf16"})
      .show_default();
  verb.add("--tokenizer", a->tokenizer, "tokenizer.bin of a llama2.c checkpoint");
  verb.flag("--dry-run", a->dry_run, "say what would be written, write nothing");
  verb.flag("--json", a->json, "print the result as JSON");
  verb.run([a] { convert(*a); });
}

}  // namespace gatewright::command
