// A trace of any bytes is refused with an Error, or every id in it is within the bounds of its header. The
// first byte says what the input is: a file as it stands, the content of batches that are packed here behind
// a valid header, or instructions by which nearly valid batches are made.
#include <zstd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gatewright/base/error.h"
#include "gatewright/formats/routing_trace.h"
#include "tests/fuzz/input.h"

namespace gatewright {
namespace {

constexpr int kExperts = 6;

template <typename T>
std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string packed(std::string_view content) {
  std::string out(ZSTD_compressBound(content.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), content.data(), content.size(), 1));
  return "BTCH" + raw(static_cast<uint32_t>(content.size())) + raw(static_cast<uint32_t>(out.size())) + out;
}

/// Tokens with ascending experts in `layers` layers; some counts and ids are wrong.
std::string made_batch(Input& input, int layers) {
  const uint32_t tokens = input.byte() % 6;
  std::string content = raw(tokens);
  for (uint32_t t = 0; t < tokens; ++t) content += raw(int32_t{input.byte() % 9});
  for (uint32_t t = 0; t < tokens; ++t) content += raw(static_cast<int16_t>(input.byte() % 4 - 1));
  for (int l = 0; l < layers; ++l) {
    std::string counts, experts, weights;
    for (uint32_t t = 0; t < tokens; ++t) {
      const uint8_t visited = input.byte() % (1 << (kExperts + 1));
      uint16_t count = 0;
      for (uint16_t e = 0; e <= kExperts; ++e) {
        if (!(visited >> e & 1)) continue;
        ++count;
        experts += raw(e);
        weights += raw(static_cast<float>(input.byte()));
      }
      counts += raw(count);
    }
    if (input.byte() % 16 == 0 && !counts.empty())
      counts[input.byte() % counts.size()] = static_cast<char>(input.byte());
    content += counts + experts + weights;
    for (uint32_t t = 0; t < tokens; ++t) content += raw(static_cast<float>(input.byte()));
  }
  if (input.byte() % 16 == 0) content.resize(input.byte() * content.size() / 256);
  return content;
}

std::string made_file(Input& input, bool plain) {
  const int layers = input.byte() % 3;
  std::string json = R"({"vocab_size":8,"domains":["a","b"],"layers":[)";
  for (int l = 0; l < layers; ++l) {
    json += l ? "," : "";
    json += R"({"layer":)" + std::to_string(l) + R"(,"num_experts":)" + std::to_string(kExperts) + "}";
  }
  json += "]}";
  std::string file = "GWTRACE1" + raw(static_cast<uint32_t>(json.size())) + json;
  uint64_t batches = 0, tokens = 0;
  while (!input.empty()) {
    const std::string content = plain ? std::string(input.bytes(input.byte())) : made_batch(input, layers);
    file += packed(content);
    ++batches;
    tokens += content.empty() ? 0 : static_cast<uint8_t>(content[0]);
  }
  return file + "END!" + raw(batches) + raw(tokens);
}

void check(const TraceBatch& batch, const TraceHeader& header) {
  const size_t tokens = batch.token.size();
  if (batch.domain.size() != tokens || batch.layers.size() != header.layers.size()) std::abort();
  for (const int32_t id : batch.token)
    if (id < 0 || id >= header.vocab_size) std::abort();
  for (const int32_t d : batch.domain)
    if (d < -1 || d >= static_cast<int32_t>(header.domains.size())) std::abort();
  for (size_t l = 0; l < batch.layers.size(); ++l) {
    const LayerTrace& layer = batch.layers[l];
    if (layer.row_begin.size() != tokens + 1 || layer.margin.size() != tokens) std::abort();
    if (layer.row_begin.back() != static_cast<int64_t>(layer.expert.size())) std::abort();
    if (layer.weight.size() != layer.expert.size()) std::abort();
    for (const int32_t e : layer.expert)
      if (e < 0 || e >= header.layers[l].num_experts) std::abort();
  }
}

void run(Input input) {
  const uint8_t kind = input.byte() % 4;
  const std::string file = kind == 0 ? std::string(input.rest()) : made_file(input, kind == 1);
  try {
    TraceReader reader(std::as_bytes(std::span(file)), "the input");
    while (const auto batch = reader.next()) check(*batch, reader.header());
  } catch (const Error& error) {
    if (!std::string_view(error.what()).starts_with("the input")) std::abort();
  }
}

}  // namespace
}  // namespace gatewright

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  gatewright::run(gatewright::Input(data, size));
  return 0;
}
