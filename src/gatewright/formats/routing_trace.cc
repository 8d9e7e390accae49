#include "gatewright/formats/routing_trace.h"

#include <zstd.h>

#include <cstring>
#include <fstream>

#include "gatewright/base/error.h"
#include "gatewright/base/json.h"

namespace gatewright {
namespace {

constexpr std::string_view kMagic = "GWTRACE1";
constexpr uint32_t kBatchMark = 0x48435442;  // "BTCH"
constexpr uint32_t kEndMark = 0x21444E45;    // "END!"
constexpr uint64_t kLargestHeader = 64 << 20;
constexpr uint64_t kLargestBatch = uint64_t{1} << 31;
constexpr int64_t kMostExperts = 65535;  // a count and an id take 16 bits
constexpr size_t kMostLayers = 4096, kMostDomains = 32767;
constexpr int kCompressionLevel = 3;

template <typename T>
void put(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

template <typename Stored, typename T>
void put_all(std::string& out, const std::vector<T>& values) {
  for (const T& x : values) put(out, static_cast<Stored>(x));
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
  for (const TraceLayer& l : header.layers)
    json["layers"].push_back({{"layer", l.layer}, {"num_experts", l.num_experts}});
  return json.dump();
}

std::string encode_batch(const TraceBatch& batch) {
  std::string raw;
  put(raw, static_cast<uint32_t>(batch.token.size()));
  put_all<int32_t>(raw, batch.token);
  put_all<int16_t>(raw, batch.domain);
  for (const LayerTrace& layer : batch.layers) {
    for (size_t t = 0; t + 1 < layer.row_begin.size(); ++t)
      put(raw, static_cast<uint16_t>(layer.row_begin[t + 1] - layer.row_begin[t]));
    put_all<uint16_t>(raw, layer.expert);
    put_all<float>(raw, layer.weight);
    put_all<float>(raw, layer.margin);
  }
  return raw;
}

std::string compress(const std::string& raw) {
  std::string packed(ZSTD_compressBound(raw.size()), '\0');
  const size_t size = ZSTD_compress(packed.data(), packed.size(), raw.data(), raw.size(), kCompressionLevel);
  require(!ZSTD_isError(size), "a routing trace can't be compressed: {}", ZSTD_getErrorName(size));
  packed.resize(size);
  return packed;
}

void check_batch(const TraceBatch& batch, const TraceHeader& header) {
  require(batch.layers.size() == header.layers.size() && batch.domain.size() == batch.token.size(),
          "a trace batch must have {} layers and a domain for each token", header.layers.size());
  for (const LayerTrace& l : batch.layers) {
    require(l.row_begin.size() == batch.token.size() + 1 && l.margin.size() == batch.token.size() &&
                l.weight.size() == l.expert.size() &&
                l.row_begin.back() == static_cast<int64_t>(l.expert.size()),
            "a trace batch's layer does not fit its {} tokens", batch.token.size());
  }
}

}  // namespace

TraceWriter::TraceWriter(const std::filesystem::path& path, TraceHeader header)
    : header_(std::move(header)), file_(path) {
  require(header_.layers.size() <= kMostLayers && header_.domains.size() <= kMostDomains,
          "a routing trace holds at most {} layers and {} domains", kMostLayers, kMostDomains);
  for (const TraceLayer& l : header_.layers)
    require(l.num_experts > 0 && l.num_experts <= kMostExperts,
            "a routing trace holds layers of 1 to {} experts, got {}", kMostExperts, l.num_experts);
  const std::string json = header_json(header_);
  std::string begin(kMagic);
  put(begin, static_cast<uint32_t>(json.size()));
  file_.write(begin + json);
}

TraceWriter::~TraceWriter() = default;

void TraceWriter::add(const TraceBatch& batch) {
  check_batch(batch, header_);
  const std::string raw = encode_batch(batch);
  require(raw.size() <= kLargestBatch, "a trace batch of {} tokens is larger than {} bytes",
          batch.token.size(), kLargestBatch);
  const std::string packed = compress(raw);
  std::string head;
  put(head, kBatchMark);
  put(head, static_cast<uint32_t>(raw.size()));
  put(head, static_cast<uint32_t>(packed.size()));
  file_.write(head + packed);
  ++batches_;
  tokens_ += batch.token.size();
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
  require(length <= kLargestHeader && length <= bytes_.size() - at_, "{} is damaged: its header is cut off",
          name_);
  const Json json = parse_json(text.substr(at_, length), name_);
  at_ += length;
  try {
    header_.vocab_size = json.at("vocab_size").get<int64_t>();
    header_.domains = json.at("domains").get<std::vector<std::string>>();
    for (const Json& l : json.at("layers"))
      header_.layers.push_back(
          {.layer = l.at("layer").get<int64_t>(), .num_experts = l.at("num_experts").get<int64_t>()});
  } catch (const Json::exception&) {
    fail("{} is damaged: its header lacks layers, domains or vocab_size", name_);
  }
  require(header_.layers.size() <= kMostLayers && header_.domains.size() <= kMostDomains &&
              header_.vocab_size >= 0 && header_.vocab_size <= INT32_MAX,
          "{} is damaged: its header claims more than a model has", name_);
  for (const TraceLayer& l : header_.layers)
    require(l.num_experts > 0 && l.num_experts <= kMostExperts, "{} is damaged: a layer with {} experts",
            name_, l.num_experts);
}

TraceBatch TraceReader::parse_batch(const std::string& raw) const {
  Cursor cursor(raw, name_);
  TraceBatch batch;
  const auto tokens = cursor.take<uint32_t>();
  batch.token = cursor.take_all<int32_t, int32_t>(tokens);
  batch.domain = cursor.take_all<int16_t, int32_t>(tokens);
  const auto domains = static_cast<int32_t>(header_.domains.size());
  for (size_t t = 0; t < tokens; ++t)
    require(batch.token[t] >= 0 && batch.token[t] < header_.vocab_size && batch.domain[t] >= -1 &&
                batch.domain[t] < domains,
            "{} is damaged: a token or domain out of range", name_);
  for (const TraceLayer& layer : header_.layers) {
    LayerTrace trace;
    for (uint16_t count : cursor.take_all<uint16_t, uint16_t>(tokens))
      trace.row_begin.push_back(trace.row_begin.back() + count);
    const auto pairs = static_cast<uint64_t>(trace.row_begin.back());
    trace.expert = cursor.take_all<uint16_t, int32_t>(pairs);
    trace.weight = cursor.take_all<float, float>(pairs);
    trace.margin = cursor.take_all<float, float>(tokens);
    for (int32_t e : trace.expert)
      require(e < layer.num_experts, "{} is damaged: expert {} of {}", name_, e, layer.num_experts);
    batch.layers.push_back(std::move(trace));
  }
  require(cursor.empty(), "{} is damaged: bytes are left over in a batch", name_);
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
  require(packed_size <= rest.size() - kHead && raw_size <= kLargestBatch, "{} is cut off inside a batch",
          name_);
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
