#include <fmt/format.h>
#include <fmt/ranges.h>

#include "bench/moe.h"
#include "bench/published.h"
#include "bench/routers.h"
#include "bench/train.h"
#include "gatewright/base/error.h"
#include "gatewright/base/json.h"
#include "gatewright/base/parallel.h"
#include "gatewright/models/families/published_shapes.h"
#include "gatewright/report/table.h"
#include "gatewright/report/terminal.h"
#include "lab_verbs.h"

namespace gatewright::command {
namespace {

struct BenchArguments {
  int rounds = 0;
  bool quick = false, json = false;
};

OrderedJson moe_json(const bench::MoeRow& r, const bench::MachinePeak& peak) {
  const double bound = bench::bound_gflops(r.shape, peak);
  return {{"tokens", r.shape.tokens},
          {"hidden", r.shape.hidden},
          {"experts", r.shape.experts},
          {"width", r.shape.width},
          {"top_k", r.shape.top_k},
          {"direction", r.shape.backward ? "forward+backward" : "forward"},
          {"threads", r.threads},
          {"ours_gflops", r.ours_gflops},
          {"loop_gflops", r.loop_gflops},
          {"dense_gflops", r.dense_gflops},
          {"ours_over_dense", r.ours_over_dense},
          {"ours_over_loop", r.ours_over_loop},
          {"peak_gflops", peak.gflops},
          {"ours_over_peak", r.ours_gflops / peak.gflops},
          {"read_gigabytes_per_second", peak.read_gigabytes},
          {"bound_gflops", bound},
          {"ours_over_bound", r.ours_gflops / bound}};
}

void bench_moe(const BenchArguments& a) {
  const auto shapes = bench::moe_shapes(a.quick);
  Progress progress("bench moe", "shapes", static_cast<double>(shapes.size()));
  OrderedJson rows = OrderedJson::array();
  TextTable table({">tokens", ">hidden", ">experts", ">top-k", ">rows/expert", "direction", ">ours GF/s",
                   ">loop GF/s", ">dense GF/s", ">ours/dense", ">ours/loop", ">of peak", ">bound GF/s"});
  const bench::MachinePeak peak = bench::machine_peak();
  for (const bench::MoeShape& shape : shapes) {
    progress.update(static_cast<double>(rows.size()));
    const bench::MoeRow r = bench::measure_moe(shape, a.rounds ? a.rounds : 7);
    rows.push_back(moe_json(r, peak));
    table.add({fmt::format("{}", shape.tokens), fmt::format("{}", shape.hidden),
               fmt::format("{}", shape.experts), fmt::format("{}", shape.top_k),
               fmt::format("{}", shape.tokens * shape.top_k / shape.experts),
               shape.backward ? "fwd+bwd" : "fwd", fmt::format("{:.0f}", r.ours_gflops),
               fmt::format("{:.0f}", r.loop_gflops), fmt::format("{:.0f}", r.dense_gflops),
               fmt::format("{:.2f}", r.ours_over_dense), fmt::format("{:.2f}", r.ours_over_loop),
               fmt::format("{:.0f} %", 100 * r.ours_gflops / peak.gflops),
               fmt::format("{:.0f}", bench::bound_gflops(r.shape, peak))});
  }
  progress.clear();
  if (a.json) return print(rows.dump(2) + "\n");
  print(fmt::format(
      "{} threads; multiply-adds in registers alone reach {:.0f} GF/s here, reading from memory {:.1f} GB/s\n"
      "bound: the peak, or as fast as the weights can be read (and their gradients written)\n\n{}",
      num_threads(), peak.gflops, peak.read_gigabytes, table.text()));
}

void bench_train(const BenchArguments& a) {
  OrderedJson rows = OrderedJson::array();
  std::string text;
  for (const std::string& name : bench::train_bench_names()) {
    const bench::TrainRow r = bench::measure_train(name, a.rounds ? a.rounds : a.quick ? 5 : 15);
    OrderedJson parts = OrderedJson::object();
    TextTable table({"part", ">ms a step", ">share"});
    const double step = 8 * 256 / r.tokens_per_second * 1e3;
    for (const auto& [part, ms] : r.parts) {
      parts[part] = ms;
      table.add({part, fmt::format("{:.1f}", ms), fmt::format("{:.0f} %", 100 * ms / step)});
    }
    rows.push_back({{"name", name},
                    {"threads", num_threads()},
                    {"tokens_per_second", r.tokens_per_second},
                    {"product_bound_tokens_per_second", r.product_bound_tokens_per_second},
                    {"share", r.share},
                    {"product_gflops", r.product_gflops},
                    {"parts", parts}});
    text += fmt::format(
        "{}: {:.0f} tokens/s, {:.2f} of the {:.0f} that its products alone would allow at {:.0f} GF/s\n{}\n",
        name, r.tokens_per_second, r.share, r.product_bound_tokens_per_second, r.product_gflops,
        table.text(2));
  }
  print(a.json ? rows.dump(2) + "\n" : text);
}

/// A layer that takes more than this times as long as the plain one is explained.
constexpr double kExplained = 1.3;

std::string explanation(const bench::RoutersRow& r) {
  if (r.layer_over_plain <= kExplained) return "";
  const bool enough = r.layer_over_plain <= kExplained * r.operations_over_plain;
  return fmt::format("its products are {:.2f} times as many operations ({:.2f} experts a token){}",
                     r.operations_over_plain, r.experts_per_token,
                     enough ? "" : ", which does not explain all of it");
}

OrderedJson routers_json(const bench::RoutersRow& r, const bench::MoeShape& shape) {
  return {{"system", r.slug},
          {"tokens", shape.tokens},
          {"hidden", shape.hidden},
          {"experts", shape.experts},
          {"width", shape.width},
          {"top_k", shape.top_k},
          {"threads", num_threads()},
          {"experts_per_token", r.experts_per_token},
          {"routing_ns_per_token", r.routing_ns},
          {"layer_ns_per_token", r.layer_ns},
          {"routing_over_plain", r.routing_over_plain},
          {"layer_over_plain", r.layer_over_plain},
          {"operations_over_plain", r.operations_over_plain},
          {"explanation", explanation(r)}};
}

void bench_routers(const BenchArguments& a) {
  std::vector<bench::MoeShape> shapes = bench::moe_shapes(a.quick);
  std::erase_if(shapes, [](const bench::MoeShape& s) { return !s.backward; });
  Progress progress("bench routers", "shapes", static_cast<double>(shapes.size()));
  OrderedJson rows = OrderedJson::array();
  std::string text;
  for (size_t i = 0; i < shapes.size(); ++i) {
    const bench::MoeShape& shape = shapes[i];
    TextTable table(
        {"system", ">experts/token", ">routing ns", ">/plain", ">layer ns", ">/plain", ">operations/plain"});
    for (const bench::RoutersRow& r : bench::measure_routers(
             shape, a.rounds ? a.rounds : 5,
             [&](const std::string& slug) { progress.update(static_cast<double>(i), slug); })) {
      rows.push_back(routers_json(r, shape));
      table.add({r.slug, fmt::format("{:.2f}", r.experts_per_token), fmt::format("{:.0f}", r.routing_ns),
                 fmt::format("{:.2f}", r.routing_over_plain), fmt::format("{:.0f}", r.layer_ns),
                 fmt::format("{:.2f}", r.layer_over_plain), fmt::format("{:.2f}", r.operations_over_plain)});
    }
    text += fmt::format("{} tokens, hidden {}, {} experts of width {}, top-{}\n{}\n", shape.tokens,
                        shape.hidden, shape.experts, shape.width, shape.top_k, table.text(2));
  }
  progress.clear();
  if (a.json) return print(rows.dump(2) + "\n");
  print(fmt::format("{} threads, forward and backward, times a token\n\n{}", num_threads(), text));
}

struct PublishedArguments {
  std::vector<std::string> shapes;
  std::string type = "q4_k", folder = ".";
  int64_t layers = 0;
  bool json = false;
};

OrderedJson published_json(const std::string& name, const PublishedArguments& a, int64_t layers,
                           const bench::PublishedRow& r) {
  return {{"name", name},
          {"layers", layers},
          {"type", a.type},
          {"threads", num_threads()},
          {"file_bytes", r.file_bytes},
          {"write_seconds", r.write_seconds},
          {"load_seconds", r.load_seconds},
          {"prompt_tokens_per_second", r.prompt_tokens_per_second},
          {"decode_tokens_per_second", r.decode_tokens_per_second},
          {"learn_tokens_per_second", r.learn_tokens_per_second},
          {"run_own_bytes", r.run_own_bytes},
          {"learn_own_bytes", r.learn_own_bytes},
          {"mapped_bytes", r.mapped_bytes}};
}

void bench_published(const PublishedArguments& a) {
  const auto type = parse_data_type(a.type);
  if (!type) throw UsageError(fmt::format("there is no type '{}'; q4_k, q8_0 and bf16 are some", a.type));
  std::vector<std::string> names = a.shapes;
  if (names.empty())
    for (const PublishedShape& s : published_shapes()) names.push_back(s.name);
  for (const std::string& name : names) published_shape(name);
  Progress progress("bench published", "models", static_cast<double>(names.size()));
  OrderedJson rows = OrderedJson::array();
  TextTable table({"shape", ">layers", ">file GB", ">write s", ">load s", ">prompt tok/s", ">decode tok/s",
                   ">routers tok/s", ">own GB run", ">own GB routers", ">file in memory GB"});
  for (const std::string& name : names) {
    Architecture architecture = published_shape(name).architecture;
    const int64_t all = architecture.num_layers();
    if (a.layers > 0 && a.layers < all) architecture.layers.resize(static_cast<size_t>(a.layers));
    const bench::PublishedRow r =
        bench::measure_published(architecture, *type, a.folder, [&](const std::string& what) {
          progress.update(static_cast<double>(rows.size()), fmt::format("{}, {}", name, what));
        });
    rows.push_back(published_json(name, a, architecture.num_layers(), r));
    table.add({name, fmt::format("{} of {}", architecture.num_layers(), all),
               fmt::format("{:.2f}", r.file_bytes / 1e9), fmt::format("{:.1f}", r.write_seconds),
               fmt::format("{:.2f}", r.load_seconds), fmt::format("{:.1f}", r.prompt_tokens_per_second),
               fmt::format("{:.2f}", r.decode_tokens_per_second),
               fmt::format("{:.1f}", r.learn_tokens_per_second), fmt::format("{:.2f}", r.run_own_bytes / 1e9),
               fmt::format("{:.2f}", r.learn_own_bytes / 1e9), fmt::format("{:.2f}", r.mapped_bytes / 1e9)});
  }
  progress.clear();
  if (a.json) return print(rows.dump(2) + "\n");
  print(fmt::format("{} threads, random weights in {}\n\n{}", num_threads(), a.type, table.text()));
}

void add_published(Options& verb) {
  const auto a = std::make_shared<PublishedArguments>();
  Options sub = verb.verb("published", "files of the shapes of published mixtures with random weights");
  std::vector<std::string> names;
  for (const PublishedShape& s : published_shapes()) names.push_back(s.name);
  sub.add("SHAPE", a->shapes, fmt::format("{}; all without one", fmt::join(names, ", "))).several();
  sub.add("--layers", a->layers, "the first N layers only (0: all)").range(0, 1000);
  sub.add("--type", a->type, "of the matrices");
  sub.add("--folder", a->folder, "for the file while it is needed");
  sub.flag("--json", a->json, "print JSON");
  add_threads(sub);
  sub.run([a] { bench_published(*a); });
}

}  // namespace

void add_bench(Options& verb) {
  const auto a = std::make_shared<BenchArguments>();
  const auto add = [&](const char* name, const char* summary, void (*run)(const BenchArguments&)) {
    Options sub = verb.verb(name, summary);
    sub.flag("--json", a->json, "print JSON");
    sub.flag("--quick", a->quick, "fewer shapes or rounds");
    sub.add("--rounds", a->rounds, "measurements of each, the median counts").range(1, 1000);
    add_threads(sub);
    sub.run([a, run] { run(*a); });
  };
  add("moe", "experts against a loop over them and against one dense product chain", bench_moe);
  add("routers", "routers of published systems against plain linear top-k", bench_routers);
  add("train", "training steps against what their matrix products alone would allow", bench_train);
  add_published(verb);
}

}  // namespace gatewright::command
