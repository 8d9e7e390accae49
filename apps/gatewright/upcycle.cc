#include "gatewright/models/families/upcycle.h"

#include <fmt/format.h>

#include <charconv>

#include "conversion.h"
#include "core_verbs.h"
#include "gatewright/base/error.h"
#include "gatewright/formats/model_lookup.h"
#include "gatewright/models/families/model_file.h"

namespace gatewright::command {
namespace {

struct UpcycleArguments {
  std::string model, out, split = "copy", grouping = "contiguous", layers;
  UpcycleOptions options;
  bool json = false, dry_run = false;
};

int64_t parse_layer(std::string_view text, const std::string& all) {
  int64_t layer = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  if (error != std::errc() || end != text.data() + text.size() || layer < 0)
    fail_usage("--layers {}: layers with commas between them were expected, such as 0,3,8-15", all);
  return layer;
}

std::vector<int64_t> parse_layers(const std::string& text) {
  std::vector<int64_t> layers;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view part = std::string_view(text).substr(begin, end - begin);
    const size_t dash = part.find('-');
    const int64_t first = parse_layer(part.substr(0, dash), text);
    const int64_t last = dash == std::string_view::npos ? first : parse_layer(part.substr(dash + 1), text);
    if (last > 65536) fail_usage("--layers {}: no model has so many layers", text);
    for (int64_t layer = first; layer <= last; ++layer) layers.push_back(layer);
    begin = end + 1;
  }
  return layers;
}

UpcycleSplit split_of(const UpcycleArguments& a) {
  if (a.split == "copy") return UpcycleSplit::kCopy;
  return a.grouping == "random"      ? UpcycleSplit::kRandom
         : a.grouping == "clustered" ? UpcycleSplit::kClustered
                                     : UpcycleSplit::kContiguous;
}

void run(const UpcycleArguments& a) {
  UpcycleOptions options = a.options;
  options.layers = parse_layers(a.layers);
  options.split = split_of(a);
  const ModelFile dense(find_model(a.model));
  const std::unique_ptr<ModelSource> mixture = upcycle(dense, options);
  const ConvertReport report = write_model(*mixture, a.out, {.dry_run = a.dry_run});
  tell_conversion(report, {.out = a.out, .dry_run = a.dry_run, .json = a.json},
                  fmt::format("{} experts a layer, {} of them a token", options.num_experts, options.top_k));
}

}  // namespace

void add_upcycle(Options& verb) {
  const auto a = std::make_shared<UpcycleArguments>();
  UpcycleOptions& o = a->options;
  verb.add("MODEL", a->model,
           "dense model of the families llama and mistral: GGUF file, folder, or name in the cache folder")
      .required();
  verb.add("OUT", a->out, "what to write, in Mixtral's layout: NAME.gguf, or a folder").required();
  verb.add("--experts", o.num_experts, "experts of a layer").range(1, 65536).show_default();
  verb.add("--top-k", o.top_k, "experts a token").range(1, 65536).show_default();
  verb.add("--layers", a->layers, "layers to change, such as 0,3,8-15; all when left out");
  verb.add("--split", a->split,
           "copy: each expert is the whole feed-forward; neurons: its neurons are divided")
      .one_of({"copy", "neurons"})
      .show_default();
  verb.add("--grouping", a->grouping,
           "which neurons share an expert: contiguous, random, or clustered by their weights")
      .one_of({"contiguous", "random", "clustered"})
      .show_default();
  verb.add("--noise", o.noise, "standard deviation of what is added to copied weights, over the matrix's own")
      .range(0.0, 10.0)
      .show_default();
  verb.add("--router-init", o.router_init, "standard deviation of the router's weights; 0: all experts tie")
      .range(0.0, 10.0)
      .show_default();
  verb.add("--seed", o.seed, "of everything that is drawn").show_default();
  verb.flag("--dry-run", a->dry_run, "say what would be written, write nothing");
  verb.flag("--json", a->json, "print the result as JSON");
  verb.run([a] { run(*a); });
}

}  // namespace gatewright::command
