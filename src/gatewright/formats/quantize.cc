#include "gatewright/formats/quantize.h"

#include <algorithm>
#include <future>
#include <map>

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"
#include "gatewright/base/quoted.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/formats/gguf.h"
#include "gatewright/formats/gguf_claims.h"

namespace gatewright {
namespace {

/// Values that one thread unpacks at once, a multiple of every block, and values between two writes.
constexpr int64_t kPieceValues = 1 << 16, kBatchValues = 1 << 22;

/// A tensor in another type, made batch by batch.
class Requantizer {
 public:
  Requantizer(const TensorView& from, DataType to, const ColumnSums* sums)
      : from_(from), to_(to), row_(from.shape.back()) {
    rows_ = 1;
    for (size_t i = 0; i + 1 < from.shape.size(); ++i) rows_ *= from.shape[i];
    matrices_ = from.shape.size() == 3 ? from.shape.front() : 1;
    if (!sums) return;
    for (int64_t m = 0; m < matrices_; ++m) importance_.push_back(sums->importance(m));
  }

  /// after_batch: called with the bytes of the input that are done.
  void run(const ByteSink& sink, const std::function<void(std::span<const std::byte>)>& after_batch) const {
    const int64_t pieces_of_row = (row_ + kPieceValues - 1) / kPieceValues;
    const int64_t pieces = rows_ * pieces_of_row;
    const int64_t batch = std::max<int64_t>(1, kBatchValues / std::min(row_, kPieceValues));
    std::vector<std::byte> made, writing;
    std::future<void> write;
    for (int64_t begin = 0; begin < pieces; begin += batch) {
      const int64_t end = std::min(pieces, begin + batch);
      const int64_t first = value_at(begin, pieces_of_row), last = value_at(end, pieces_of_row);
      made.resize(static_cast<size_t>(bytes(to_, last - first)));
      parallel_for(begin, end, 1,
                   [&](int64_t b, int64_t e) { pack_pieces(b, e, pieces_of_row, first, made); });
      if (write.valid()) write.get();
      std::swap(made, writing);
      write = std::async(std::launch::async, [&] { sink(writing); });
      after_batch(from_.data.subspan(static_cast<size_t>(bytes(from_.dtype, first)),
                                     static_cast<size_t>(bytes(from_.dtype, last - first))));
    }
    if (write.valid()) write.get();
  }

 private:
  static int64_t bytes(DataType type, int64_t values) {
    return values / block_elements(type) * block_bytes(type);
  }
  /// The first value of a piece, counted from the beginning of the tensor.
  int64_t value_at(int64_t piece, int64_t pieces_of_row) const {
    return piece / pieces_of_row * row_ + piece % pieces_of_row * kPieceValues;
  }

  void pack_pieces(int64_t begin, int64_t end, int64_t pieces_of_row, int64_t origin,
                   std::vector<std::byte>& out) const {
    std::vector<float> values;
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t column = piece % pieces_of_row * kPieceValues,
                    count = std::min(kPieceValues, row_ - column);
      const int64_t first = value_at(piece, pieces_of_row);
      values.resize(static_cast<size_t>(count));
      unpack(from_.dtype,
             from_.data.subspan(static_cast<size_t>(bytes(from_.dtype, first)),
                                static_cast<size_t>(bytes(from_.dtype, count))),
             values);
      pack(to_, values, count, importance_of(first / row_, column, count),
           std::span(out).subspan(static_cast<size_t>(bytes(to_, first - origin)),
                                  static_cast<size_t>(bytes(to_, count))));
    }
  }

  std::span<const float> importance_of(int64_t row, int64_t column, int64_t count) const {
    if (importance_.empty()) return {};
    const std::vector<float>& all = importance_[static_cast<size_t>(row / (rows_ / matrices_))];
    if (all.empty()) return {};
    return std::span(all).subspan(static_cast<size_t>(column), static_cast<size_t>(count));
  }

  const TensorView& from_;
  DataType to_;
  int64_t row_, rows_, matrices_;
  std::vector<std::vector<float>> importance_;  // by matrix; an empty one saw nothing
};

void check_sums(const TensorView& tensor, const ColumnSums& sums) {
  const int64_t matrices = tensor.shape.size() == 3 ? tensor.shape.front() : 1;
  require(sums.columns == tensor.shape.back() && sums.matrices == matrices,
          "the importance matrix is of another model: {} has {} matrices of {} columns there, {} of {} in "
          "the file",
          Quoted{tensor.name}, sums.matrices, sums.columns, matrices, tensor.shape.back());
}

const ColumnSums* sums_for(const std::string& name, const QuantizeOptions& options) {
  if (!options.importance) return nullptr;
  const auto it = options.importance->weights.find(name);
  return it == options.importance->weights.end() ? nullptr : &it->second;
}

QuantizedTensor decide(const TensorView& tensor, const GgufFile& file, const QuantizeOptions& options) {
  const auto choice = options.rules.choose(tensor, file.tensors());
  QuantizedTensor result = {.name = tensor.name,
                            .shape = tensor.shape,
                            .before = tensor.dtype,
                            .after = choice ? choice->type : tensor.dtype,
                            .wanted = choice ? choice->wanted : std::nullopt,
                            .bytes_before = tensor.data.size()};
  result.bytes_after = static_cast<uint64_t>(tensor_bytes(result.after, tensor.shape, tensor.name));
  if (!options.importance || !result.changed() || !is_packed(result.after)) return result;
  result.seen.emplace();
  if (const ColumnSums* sums = sums_for(tensor.name, options)) {
    check_sums(tensor, *sums);
    result.seen = sums->counts;
  }
  return result;
}

/// Where the file that is read and the progress stand.
class Reading {
 public:
  Reading(const GgufFile& file, const QuantizeOptions& options) : file_(file), options_(options) {
    for (const auto& [name, view] : file.tensors()) total_ += view.data.size();
  }
  void done(std::span<const std::byte> bytes, std::string_view tensor) {
    file_.release(bytes);
    done_ += bytes.size();
    if (options_.progress) options_.progress(done_, total_, tensor);
  }

 private:
  const GgufFile& file_;
  const QuantizeOptions& options_;
  uint64_t done_ = 0, total_ = 0;
};

void copy_bytes(const TensorView& tensor, const ByteSink& sink, Reading& reading) {
  constexpr size_t kPiece = size_t{1} << 24;
  for (size_t at = 0; at < tensor.data.size(); at += kPiece) {
    const auto piece = tensor.data.subspan(at, std::min(kPiece, tensor.data.size() - at));
    sink(piece);
    reading.done(piece, tensor.name);
  }
}

TensorPlan plan_for(const TensorView& tensor, const QuantizedTensor& decided, const ColumnSums* sums,
                    Reading& reading) {
  TensorPlan plan = {.name = tensor.name, .dtype = decided.after, .shape = tensor.shape};
  plan.produce = [&tensor, &decided, sums, &reading](const ByteSink& sink) {
    if (!decided.changed()) return copy_bytes(tensor, sink, reading);
    try {
      Requantizer(tensor, decided.after, sums).run(sink, [&](std::span<const std::byte> bytes) {
        reading.done(bytes, tensor.name);
      });
    } catch (const Error& error) {
      fail("{}: {}", Quoted{tensor.name}, error.what());
    }
  };
  return plan;
}

/// The type that most bytes are of, for files whose rules say nothing about the rest.
std::optional<uint32_t> largest_type(const std::vector<QuantizedTensor>& tensors) {
  std::map<DataType, uint64_t> bytes;
  for (const QuantizedTensor& t : tensors) bytes[t.after] += t.bytes_after;
  const auto it = std::ranges::max_element(bytes, {}, [](const auto& b) { return b.second; });
  return it == bytes.end() ? std::nullopt : file_type_of(it->first);
}

GgufMetadata metadata_for(const GgufFile& file, const QuantizeReport& report,
                          const QuantizeOptions& options) {
  GgufMetadata metadata = file.metadata();
  const std::optional<uint32_t> named = options.rules.file_type();
  if (const auto type = named ? named : largest_type(report.tensors))
    metadata.set("general.file_type", *type);
  metadata.set("general.quantization_version", uint32_t{2});
  return metadata;
}

}  // namespace

std::vector<int64_t> QuantizedTensor::unseen() const {
  std::vector<int64_t> matrices;
  for (size_t m = 0; seen && m < seen->size(); ++m)
    if (!((*seen)[m] > 0)) matrices.push_back(static_cast<int64_t>(m));
  return matrices;
}

QuantizeReport quantize_gguf(const std::filesystem::path& in, const std::filesystem::path& out,
                             const QuantizeOptions& options) {
  const GgufFile file(in);
  const std::vector<std::string> problems = disagreements(file.metadata(), file.tensors());
  require(problems.empty(), "{} can't be quantised, its keys and tensors disagree: {}", in.string(),
          fmt::join(problems, "; "));
  QuantizeReport report;
  report.bytes_before = file.file_bytes();
  for (const std::string& name : file.order())
    report.tensors.push_back(decide(file.tensor(name), file, options));
  const GgufMetadata metadata = metadata_for(file, report, options);
  Reading reading(file, options);
  std::vector<TensorPlan> plans;
  for (const QuantizedTensor& decided : report.tensors)
    plans.push_back(plan_for(file.tensor(decided.name), decided, sums_for(decided.name, options), reading));
  report.bytes_after = gguf_size(metadata, plans);
  if (!options.dry_run) write_gguf(out, metadata, plans);
  return report;
}

}  // namespace gatewright
