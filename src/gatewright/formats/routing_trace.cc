#include "gatewright/formats/routing_trace.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "gatewright/base/error.h"
#include "gatewright/base/json.h"

namespace gatewright {
namespace {

constexpr std::string_view kMagic = "GWTRACE1";
constexpr uint32_t kBatchMark = 0x48435442;  // "BTCH"
constexpr uint32_t kEndMark = 0x21444E45;    // "END!"
constexpr uint64_t kLargestTraceHeader = 1 << 20;
/// Bytes of a batch before compression: what a few bytes of a file may make a reader allocate.
constexpr uint64_t kLargestBatch = 4 << 20;
constexpr int64_t kMostExperts = 65535;  // a token's number of experts takes 16 bits
constexpr size_t kMostLayers = 4096;
constexpr size_t kMostDomains = 32767;
constexpr int kCompressionLevel = 3;

template <typename T>
void put(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

/// The values from index `first` up to `last`.
template <typename Stored, typename T>
void put_all(std::string& out, const std::vector<T>& values, size_t first, size_t last) {
  for (size_t i = first; i < last; ++i) put(out, static_cast<Stored>(values[i]));
}

/// Reads values one after another; running over the end is an error.
class Cursor {
 public:
  Cursor(std::string_view bytes, std::string_view what) : bytes_(bytes), what_(what) {}

  template <typename T>
  T take() {
    need(1, sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data(), sizeof(T));
    bytes_.remove_prefix(sizeof(T));
    return value;
  }

  template <typename Stored, typename T>
  std::vector<T> take_all(uint64_t count) {
    need(count, sizeof(Stored));
    std::vector<T> values(static_cast<size_t>(count));
    for (T& x : values) x = static_cast<T>(take<Stored>());
    return values;
  }

  bool empty() const { return bytes_.empty(); }

 private:
  void need(uint64_t count, size_t size) const {
    require(count <= bytes_.size() / size, "{} is damaged: a batch ends too early", what_);
  }
  std::string_view bytes_, what_;
};

std::string header_json(const TraceHeader& header) {
  OrderedJson json = {
      {"vocab_size", header.vocab_size}, {"domains", header.domains}, {"layers", OrderedJson::array()}};
  for (const TraceLayer& l : header.layers) {
    json["layers"].push_back({{"layer", l.layer}, {"num_experts", l.num_experts}});
    if (l.round > 0) json["layers"].back()["round"] = l.round;
    if (!l.part.empty()) json["layers"].back()["part"] = l.part;
  }
  return json.dump();
}

/// The tokens from `first` up to `last`.
std::string encode_batch(const TraceBatch& batch, size_t first, size_t last) {
  std::string raw;
  put(raw, static_cast<uint32_t>(last - first));
  put_all<int32_t>(raw, batch.token, first, last);
  put_all<int16_t>(raw, batch.domain, first, last);
  for (const LayerTrace& layer : batch.layers) {
    for (size_t t = first; t < last; ++t)
      put(raw, static_cast<uint16_t>(layer.row_begin[t + 1] - layer.row_begin[t]));
    const auto begin = static_cast<size_t>(layer.row_begin[first]),
               end = static_cast<size_t>(layer.row_begin[last]);
    put_all<uint16_t>(raw, layer.expert, begin, end);
    put_all<float>(raw, layer.weight, begin, end);
    put_all<float>(raw, layer.margin, first, last);
  }
  return raw;
}

/// Bytes that a token takes in a batch.
uint64_t token_size(const TraceBatch& batch, size_t t) {
  constexpr uint64_t kToken = sizeof(int32_t) + sizeof(int16_t), kLayer = sizeof(uint16_t) + sizeof(float),
                     kPair = sizeof(uint16_t) + sizeof(float);
  uint64_t size = kToken;
  for (const LayerTrace& l : batch.layers)
    size += kLayer + kPair * static_cast<uint64_t>(l.row_begin[t + 1] - l.row_begin[t]);
  return size;
}

std::string compress(const std::string& raw) {
  std::string packed(ZSTD_compressBound(raw.size()), '\0');
  const size_t size = ZSTD_compress(packed.data(), packed.size(), raw.data(), raw.size(), kCompressionLevel);
  require(!ZSTD_isError(size), "a routing trace can't be compressed: {}", ZSTD_getErrorName(size));
  packed.resize(size);
  return packed;
}

/// Without control characters, so that it can be shown.
bool is_plain(std::string_view name) {
  return std::ranges::none_of(name, [](unsigned char c) { return c < 32 || c == 127; });
}

void check_header(const TraceHeader& header, std::string_view what) {
  require(header.layers.size() <= kMostLayers && header.domains.size() <= kMostDomains &&
              header.vocab_size >= 0 && header.vocab_size <= INT32_MAX,
          "{}: at most {} layers, {} domains and {} token ids fit into a trace", what, kMostLayers,
          kMostDomains, INT32_MAX);
  for (const TraceLayer& l : header.layers) {
    require(l.layer >= 0 && l.num_experts > 0 && l.num_experts <= kMostExperts,
            "{}: layer {} has {} experts, a trace can hold 1 to {}", what, l.layer, l.num_experts,
            kMostExperts);
    require(l.round >= 0, "{}: layer {} has a round {}, the first is 0", what, l.layer, l.round);
    require(is_plain(l.part), "{}: the part of layer {} holds control characters", what, l.layer);
  }
  for (const std::string& name : header.domains)
    require(is_plain(name), "{}: a domain's name holds control characters", what);
}

/// What both ends rely on: ids within the header's bounds, experts ascending in each token.
void check_values(const TraceBatch& batch, const TraceHeader& header, std::string_view what) {
  const auto domains = static_cast<int32_t>(header.domains.size());
  for (size_t t = 0; t < batch.token.size(); ++t)
    require(batch.token[t] >= 0 && batch.token[t] < header.vocab_size && batch.domain[t] >= -1 &&
                batch.domain[t] < domains,
            "{}: a token or domain out of range", what);
  for (size_t l = 0; l < batch.layers.size(); ++l) {
    const LayerTrace& layer = batch.layers[l];
    for (size_t t = 0; t < batch.token.size(); ++t) {
      int32_t last = -1;
      for (int64_t n = layer.row_begin[t]; n < layer.row_begin[t + 1]; ++n) {
        const int32_t expert = layer.expert[static_cast<size_t>(n)];
        require(expert > last && expert < header.layers[l].num_experts,
                "{}: expert {} of {} after expert {} of the same token", what, expert,
                header.layers[l].num_experts, last);
        last = expert;
      }
    }
  }
}

void check_sizes(const TraceBatch& batch, const TraceHeader& header) {
  require(batch.layers.size() == header.layers.size() && batch.domain.size() == batch.token.size(),
          "a trace batch must have {} layers and a domain for each token", header.layers.size());
  for (const LayerTrace& l : batch.layers) {
    require(l.row_begin.size() == batch.token.size() + 1 && l.margin.size() == batch.token.size() &&
                l.weight.size() == l.expert.size() && l.row_begin.front() == 0 &&
                std::ranges::is_sorted(l.row_begin) &&
                l.row_begin.back() == static_cast<int64_t>(l.expert.size()),
            "a trace batch's layer does not fit its {} tokens", batch.token.size());
  }
}

}  // namespace

TraceWriter::TraceWriter(const std::filesystem::path& path, TraceHeader header)
    : header_(std::move(header)), file_(path) {
  check_header(header_, path.string());
  const std::string json = header_json(header_);
  require(json.size() <= kLargestTraceHeader, "{}: the names of the domains are too long for a trace",
          path.string());
  std::string begin(kMagic);
  put(begin, static_cast<uint32_t>(json.size()));
  file_.write(begin + json);
}

void TraceWriter::add(const TraceBatch& batch) {
  check_sizes(batch, header_);
  check_values(batch, header_, "a trace batch can't be written");
  size_t first = 0;
  uint64_t size = sizeof(uint32_t);
  for (size_t t = 0; t < batch.token.size(); ++t) {
    const uint64_t of_token = token_size(batch, t);
    require(of_token <= kLargestBatch - sizeof(uint32_t),
            "a token visits more experts than a trace can hold");
    if (size + of_token > kLargestBatch) {
      add_tokens(batch, first, t);
      first = t;
      size = sizeof(uint32_t);
    }
    size += of_token;
  }
  if (first < batch.token.size()) add_tokens(batch, first, batch.token.size());
}

void TraceWriter::add_tokens(const TraceBatch& batch, size_t first, size_t last) {
  const std::string raw = encode_batch(batch, first, last), packed = compress(raw);
  std::string head;
  put(head, kBatchMark);
  put(head, static_cast<uint32_t>(raw.size()));
  put(head, static_cast<uint32_t>(packed.size()));
  file_.write(head + packed);
  ++batches_;
  tokens_ += last - first;
}

void TraceWriter::finish() {
  std::string end;
  put(end, kEndMark);
  put(end, batches_);
  put(end, tokens_);
  file_.write(end);
  file_.commit();
}

TraceReader::TraceReader(const std::filesystem::path& path)
    : file_(MappedFile(path)), bytes_(file_->bytes()), name_(path.string()) {
  read_header();
}

TraceReader::TraceReader(std::span<const std::byte> bytes, std::string name)
    : bytes_(bytes), name_(std::move(name)) {
  read_header();
}

void TraceReader::read_header() {
  const std::string_view text(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
  require(text.starts_with(kMagic), "{} is not a routing trace", name_);
  Cursor cursor(text.substr(kMagic.size()), name_);
  const auto length = cursor.take<uint32_t>();
  at_ = kMagic.size() + sizeof(uint32_t);
  require(length <= kLargestTraceHeader && length <= bytes_.size() - at_,
          "{} is damaged: its header is cut off", name_);
  const Json json = parse_json(text.substr(at_, length), name_);
  at_ += length;
  const auto whole = [&](const Json& object, const char* key) {
    const Json& value = object.at(key);
    require(value.is_number_integer(), "{} is damaged: its header's {} is no whole number", name_, key);
    return value.get<int64_t>();
  };
  try {
    header_.vocab_size = whole(json, "vocab_size");
    header_.domains = json.at("domains").get<std::vector<std::string>>();
    for (const Json& l : json.at("layers"))
      header_.layers.push_back({.layer = whole(l, "layer"),
                                .num_experts = whole(l, "num_experts"),
                                .round = l.contains("round") ? whole(l, "round") : 0,
                                .part = l.contains("part") ? l.at("part").get<std::string>() : ""});
  } catch (const Json::exception&) {
    fail("{} is damaged: its header lacks layers, domains or vocab_size", name_);
  }
  check_header(header_, name_ + " is damaged");
}

TraceBatch TraceReader::parse_batch(const std::string& raw) const {
  Cursor cursor(raw, name_);
  TraceBatch batch;
  const auto tokens = cursor.take<uint32_t>();
  batch.token = cursor.take_all<int32_t, int32_t>(tokens);
  batch.domain = cursor.take_all<int16_t, int32_t>(tokens);
  for (size_t l = 0; l < header_.layers.size(); ++l) {
    LayerTrace trace;
    for (uint16_t count : cursor.take_all<uint16_t, uint16_t>(tokens))
      trace.row_begin.push_back(trace.row_begin.back() + count);
    const auto pairs = static_cast<uint64_t>(trace.row_begin.back());
    trace.expert = cursor.take_all<uint16_t, int32_t>(pairs);
    trace.weight = cursor.take_all<float, float>(pairs);
    trace.margin = cursor.take_all<float, float>(tokens);
    batch.layers.push_back(std::move(trace));
  }
  require(cursor.empty(), "{} is damaged: bytes are left over in a batch", name_);
  check_values(batch, header_, name_ + " is damaged");
  return batch;
}

std::optional<TraceBatch> TraceReader::next() {
  if (ended_) return std::nullopt;
  const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + at_, bytes_.size() - at_);
  require(!rest.empty(), "{} is cut off: its end is missing", name_);
  Cursor cursor(rest, name_);
  const auto mark = cursor.take<uint32_t>();
  if (mark == kEndMark) {
    const auto batches = cursor.take<uint64_t>(), tokens = cursor.take<uint64_t>();
    require(batches == batches_ && tokens == tokens_ && cursor.empty(),
            "{} is damaged: its end does not fit its content", name_);
    ended_ = true;
    return std::nullopt;
  }
  require(mark == kBatchMark, "{} is damaged: no batch where one should begin", name_);
  const uint64_t raw_size = cursor.take<uint32_t>(), packed_size = cursor.take<uint32_t>();
  constexpr size_t kHead = 3 * sizeof(uint32_t);
  require(packed_size <= rest.size() - kHead, "{} is cut off inside a batch", name_);
  require(raw_size <= kLargestBatch, "{} is damaged: a batch claims {} bytes", name_, raw_size);
  const std::string_view packed = rest.substr(kHead, packed_size);
  const auto claimed = ZSTD_getFrameContentSize(packed.data(), packed.size());
  require(claimed == raw_size, "{} is damaged: a batch's sizes disagree", name_);
  std::string raw(raw_size, '\0');
  const size_t got = ZSTD_decompress(raw.data(), raw.size(), packed.data(), packed.size());
  require(!ZSTD_isError(got) && got == raw_size, "{} is damaged: a batch can't be unpacked", name_);
  TraceBatch batch = parse_batch(raw);
  at_ += kHead + packed_size;
  ++batches_;
  tokens_ += batch.token.size();
  return batch;
}

bool is_trace(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string begin(kMagic.size(), '\0');
  return in.read(begin.data(), static_cast<std::streamsize>(begin.size())) && begin == kMagic;
}

}  // namespace gatewright
