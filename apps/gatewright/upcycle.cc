#include "gatewright/models/families/upcycle.h"

#include <fmt/format.h>

#include "conversion.h"
#include "core_verbs.h"
#include "gatewright/formats/model_lookup.h"
#include "gatewright/models/families/model_file.h"
#include "layer_list.h"

namespace gatewright::command {
namespace {

struct UpcycleArguments {
  std::string model, out, split = "copy", grouping = "contiguous", layers;
  UpcycleOptions options;
  bool json = false, dry_run = false;
};

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
