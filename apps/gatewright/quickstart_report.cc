#include "quickstart_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/evaluate/generate.h"
#include "gatewright/evaluate/trace_of.h"
#include "gatewright/models/checkpoint.h"
#include "gatewright/report/table.h"
#include "gatewright/report/terminal.h"
#include "gatewright/train/device.h"
#include "gatewright/train/validation.h"

namespace gatewright::command {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSequenceLength = 256, kBatchSize = 8;
constexpr int64_t kPromptTokens = 24, kSampleTokens = 80;

double median_tokens_per_second(const fs::path& metrics) {
  std::vector<double> rates;
  std::ifstream in(metrics);
  for (std::string line; std::getline(in, line);) {
    const Json row = parse_json(line, metrics.string());
    if (row.contains("tokens_per_second")) rates.push_back(row["tokens_per_second"]);
  }
  require(!rates.empty(), "{} tells no tokens_per_second", metrics.string());
  std::ranges::nth_element(rates, rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2));
  return rates[rates.size() / 2];
}

std::string indented(std::string_view text, size_t most_lines) {
  std::string lines = "  | ";
  size_t count = 1;
  for (char c : text) {
    if (c == '\n') {
      if (++count > most_lines) break;
      lines += "\n  | ";
    } else if (static_cast<unsigned char>(c) >= 0x20 || c == '\t') {
      lines += c;
    }
  }
  return lines + "\n";
}

/// The first validation document of a domain that is long enough, or -1.
int64_t document_of(const TokenCache& cache, int32_t domain) {
  for (int64_t i = 0; i < cache.documents(Part::kValidation); ++i) {
    const TokenCache::DocumentFacts facts = cache.document(Part::kValidation, i);
    if (facts.domain == domain && facts.tokens > kPromptTokens) return i;
  }
  return -1;
}

}  // namespace

std::optional<RunResult> result_of(const fs::path& folder, const std::string& name,
                                   const TrainingData& data) {
  Decoder model = load_decoder(folder / name);
  model.to(choose_device("auto"));
  const std::vector<std::string>& domains = data.cache.domains();
  RunResult result{.name = name,
                   .tokens_per_second = median_tokens_per_second(folder / name / "metrics.jsonl")};
  TraceHeader header = trace_header(model.spec(), domains);
  SeeBatch see;
  if (!header.layers.empty()) {
    result.routing.emplace(header);
    see = [&](const PackedBatch& packed, const DecoderOutput& output) {
      result.routing->add(trace_of(packed, traced_records(output)));
    };
  }
  ValidationStream stream(data.cache, kSequenceLength, data.token_bytes);
  const ValidationResult validation =
      validate_on(model, stream, kBatchSize, static_cast<int64_t>(domains.size()), see);
  if (interrupted()) return std::nullopt;
  result.bits_per_byte = validation.all.bits_per_byte();
  for (const TextLoss& domain : validation.domains)
    result.domain_bits_per_byte.push_back(domain.bits_per_byte());
  if (result.routing) {
    result.experts_per_token = validation.routing.experts_per_token();
    result.load_imbalance = validation.routing.load_imbalance();
  }
  result.parameters = count_parameters(model.spec(), result.experts_per_token);
  return result;
}

OrderedJson summary_json(const std::vector<RunResult>& results, const std::vector<std::string>& domains) {
  OrderedJson json = {{"runs", OrderedJson::array()}, {"domains", domains}};
  for (const RunResult& r : results) {
    OrderedJson by_domain = OrderedJson::object();
    for (size_t d = 0; d < domains.size(); ++d) by_domain[domains[d]] = r.domain_bits_per_byte[d];
    json["runs"].push_back({{"name", r.name},
                            {"active_parameters", r.parameters.active},
                            {"total_parameters", r.parameters.total},
                            {"validation_bits_per_byte", r.bits_per_byte},
                            {"tokens_per_second", r.tokens_per_second},
                            {"experts_per_token", r.experts_per_token},
                            {"load_imbalance", r.load_imbalance},
                            {"bits_per_byte_by_domain", by_domain}});
  }
  return json;
}

std::string comparison_text(const std::vector<RunResult>& results, const std::vector<std::string>& domains) {
  TextTable table(
      {"model", ">active", ">total", ">bits per byte", ">tokens/s", ">experts per token", ">imbalance"});
  std::vector<std::string> headings = {"bits per byte"};
  for (const RunResult& r : results) {
    headings.push_back(">" + r.name);
    const bool routed = r.routing.has_value();
    table.add({r.name, short_count(static_cast<double>(r.parameters.active)),
               short_count(static_cast<double>(r.parameters.total)), fmt::format("{:.4f}", r.bits_per_byte),
               short_count(r.tokens_per_second), routed ? fmt::format("{:.2f}", r.experts_per_token) : "-",
               routed ? fmt::format("{:.2f}", r.load_imbalance) : "-"});
  }
  TextTable by_domain(headings);
  for (size_t d = 0; d < domains.size(); ++d) {
    std::vector<std::string> cells = {domains[d]};
    for (const RunResult& r : results) cells.push_back(fmt::format("{:.4f}", r.domain_bits_per_byte[d]));
    by_domain.add(cells);
  }
  return table.text() + "\n" + by_domain.text();
}

std::string samples_text(const fs::path& folder, const TrainingData& data) {
  Decoder model = load_decoder(folder);
  model.to(choose_device("auto"));
  std::string text;
  for (size_t d = 0; d < data.cache.domains().size() && !interrupted(); ++d) {
    const int64_t document = document_of(data.cache, static_cast<int32_t>(d));
    if (document < 0) continue;
    std::vector<int32_t> begin(kPromptTokens), prompt;
    data.cache.copy_tokens(Part::kValidation, document, 0, begin);
    if (const auto end = data.tokenizer.end_of_text()) prompt.push_back(*end);
    prompt.insert(prompt.end(), begin.begin(), begin.end());
    GenerateOptions options{.max_tokens = kSampleTokens, .sampling = {.temperature = 0.7}, .seed = d};
    options.num_ids = data.tokenizer.vocab_size();
    if (const auto end = data.tokenizer.end_of_text()) options.stop = {*end};
    const std::vector<int32_t> sample = generate(model, prompt, options);
    text +=
        fmt::format("{}, given:\n{}and generated:\n{}\n", data.cache.domains()[d],
                    indented(data.tokenizer.decode(begin), 6), indented(data.tokenizer.decode(sample), 8));
  }
  return text;
}

}  // namespace gatewright::command
