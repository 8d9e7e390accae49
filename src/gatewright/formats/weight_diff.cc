#include "gatewright/formats/weight_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

#include "gatewright/base/checked.h"
#include "gatewright/base/error.h"
#include "gatewright/base/json.h"
#include "gatewright/base/parallel.h"
#include "gatewright/base/quoted.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/formats/gguf.h"
#include "gatewright/formats/safetensors_folder.h"

namespace gatewright {
namespace {

/// A key's value: its text as shown, and bytes by which two are compared.
struct KeyText {
  std::string shown, compared;
};

/// One side, whatever its format is.
struct Weights {
  std::map<std::string, KeyText> keys;
  std::map<std::string, TensorView> tensors;
  std::function<void(std::span<const std::byte>)> release;
};

std::string shown_value(const GgufValue& value) {
  if (const auto x = value.flag()) return *x ? "true" : "false";
  if (const auto x = value.integer()) return fmt::format("{}", *x);
  if (const auto x = value.number()) return fmt::format("{}", *x);
  if (const auto x = value.text()) return fmt::format("{}", Quoted{*x});
  return value.described();
}

Weights of_gguf(const std::filesystem::path& path) {
  const auto file = std::make_shared<const GgufFile>(path);
  Weights weights = {
      .keys = {}, .tensors = file->tensors(), .release = [file](auto bytes) { file->release(bytes); }};
  for (const std::string& key : file->metadata().keys()) {
    const GgufValue& value = *file->metadata().find(key);
    weights.keys[key] = {shown_value(value), value.described() + std::string(value.encoded())};
  }
  return weights;
}

void add_metadata(Weights& weights, const Metadata& metadata) {
  for (const auto& [key, text] : metadata) weights.keys[key] = {fmt::format("{}", Quoted{text}), text};
}

Weights of_safetensors(const std::filesystem::path& path) {
  const auto file = std::make_shared<const SafetensorsFile>(path);
  Weights weights = {
      .keys = {}, .tensors = file->tensors(), .release = [file](auto bytes) { file->file().release(bytes); }};
  add_metadata(weights, file->metadata());
  return weights;
}

Weights of_folder(const std::filesystem::path& path) {
  const auto folder = std::make_shared<const SafetensorsFolder>(path);
  Weights weights = {
      .keys = {}, .tensors = folder->tensors(), .release = [folder](auto bytes) { folder->release(bytes); }};
  add_metadata(weights, folder->metadata());
  const std::filesystem::path config = path / "config.json";
  if (!std::filesystem::exists(config)) return weights;
  const Json json = parse_json(read_file(config, 16 << 20), config.string());
  require(json.is_object(), "{} is damaged: an object was expected", config.string());
  for (const auto& [key, value] : json.items()) {
    const std::string text = value.dump(-1, ' ', true);
    weights.keys["config.json: " + key] = {text.size() > 60 ? text.substr(0, 60) + "..." : text, text};
  }
  return weights;
}

Weights open_weights(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return of_folder(path);
  return is_gguf(path) ? of_gguf(path) : of_safetensors(path);
}

void compare_keys(const Weights& first, const Weights& second, WeightDiff& diff) {
  for (const auto& [key, value] : first.keys) {
    const auto other = second.keys.find(key);
    if (other == second.keys.end())
      diff.keys.push_back({key, value.shown, std::nullopt});
    else if (other->second.compared != value.compared)
      diff.keys.push_back({key, value.shown, other->second.shown});
    else
      ++diff.same_keys;
  }
  for (const auto& [key, value] : second.keys)
    if (!first.keys.contains(key)) diff.keys.push_back({key, std::nullopt, value.shown});
}

/// ChangeSums over pieces of two tensors.
struct ChangeSums {
  double max_abs = 0, squared = 0, first_squared = 0;
  uint64_t finite = 0, not_finite = 0;

  void add(float a, float b) {
    const double x = a, y = b;
    if (!std::isfinite(x) || !std::isfinite(y)) {
      not_finite += !(x == y || (std::isnan(x) && std::isnan(y)));
      return;
    }
    ++finite;
    max_abs = std::max(max_abs, std::abs(x - y));
    squared += (x - y) * (x - y);
    first_squared += x * x;
  }
  void add(const ChangeSums& other) {
    max_abs = std::max(max_abs, other.max_abs);
    squared += other.squared;
    first_squared += other.first_squared;
    finite += other.finite;
    not_finite += other.not_finite;
  }
};

std::span<const std::byte> bytes_of(const TensorView& tensor, int64_t begin, int64_t count) {
  const int64_t elements = block_elements(tensor.dtype), bytes = block_bytes(tensor.dtype);
  return tensor.data.subspan(static_cast<size_t>(begin / elements * bytes),
                             static_cast<size_t>(count / elements * bytes));
}

/// Pieces of so many values are compared at once; a multiple of every block.
constexpr int64_t kPieceValues = 1 << 16;

/// Both tensors in pieces. done: called with the number of values that were compared.
ChangeSums compare_values(const TensorView& a, const TensorView& b,
                          const std::function<void(int64_t begin, int64_t count)>& done) {
  constexpr int64_t kBatchPieces = 256;
  const int64_t values = checked_product(a.shape, a.name);
  const int64_t pieces = (values + kPieceValues - 1) / kPieceValues;
  ChangeSums total;
  std::mutex mutex;
  for (int64_t begin = 0; begin < pieces; begin += kBatchPieces) {
    const int64_t end = std::min(pieces, begin + kBatchPieces);
    parallel_for(begin, end, 1, [&](int64_t first, int64_t last) {
      ChangeSums sums;
      std::vector<float> x, y;
      for (int64_t piece = first; piece < last; ++piece) {
        const int64_t at = piece * kPieceValues, count = std::min(kPieceValues, values - at);
        x.resize(static_cast<size_t>(count));
        y.resize(static_cast<size_t>(count));
        unpack(a.dtype, bytes_of(a, at, count), x);
        unpack(b.dtype, bytes_of(b, at, count), y);
        for (size_t i = 0; i < x.size(); ++i) sums.add(x[i], y[i]);
      }
      const std::lock_guard lock(mutex);
      total.add(sums);
    });
    done(begin * kPieceValues, std::min(values, end * kPieceValues) - begin * kPieceValues);
  }
  return total;
}

TensorDifference::Values values_of(const ChangeSums& sums) {
  const double count = std::max<double>(1, static_cast<double>(sums.finite));
  const double rms = std::sqrt(sums.squared / count), first = std::sqrt(sums.first_squared / count);
  return {.max_abs = sums.max_abs,
          .rms = rms,
          .relative = rms == 0     ? 0
                      : first == 0 ? INFINITY
                                   : rms / first,
          .not_finite = sums.not_finite};
}

/// Piece by piece, so that what was read can leave memory.
bool same_bytes(const TensorView& a, const TensorView& b, const Weights& first, const Weights& second) {
  constexpr size_t kPiece = size_t{1} << 24;
  if (a.dtype != b.dtype) return false;
  for (size_t at = 0; at < a.data.size(); at += kPiece) {
    const size_t size = std::min(kPiece, a.data.size() - at);
    if (std::memcmp(a.data.data() + at, b.data.data() + at, size) != 0) return false;
    first.release(a.data.subspan(at, size));
    second.release(b.data.subspan(at, size));
  }
  return true;
}

class Comparison {
 public:
  Comparison(const Weights& first, const Weights& second, const DiffOptions& options)
      : first_(first), second_(second), options_(options) {
    for (const auto& [name, view] : first.tensors) total_ += view.data.size();
  }

  void run(WeightDiff& diff) {
    for (const auto& [name, a] : first_.tensors) {
      const auto other = second_.tensors.find(name);
      if (other == second_.tensors.end()) {
        diff.tensors.push_back({.name = name, .first = side(a), .second = {}, .values = {}});
        advance(a, a.data.size());
      } else if (auto difference = compare(a, other->second)) {
        diff.tensors.push_back(std::move(*difference));
      } else {
        ++diff.same_tensors;
      }
    }
    for (const auto& [name, b] : second_.tensors)
      if (!first_.tensors.contains(name))
        diff.tensors.push_back({.name = name, .first = {}, .second = side(b), .values = {}});
  }

 private:
  static TensorDifference::Side side(const TensorView& t) { return {t.dtype, t.shape}; }

  std::optional<TensorDifference> compare(const TensorView& a, const TensorView& b) {
    TensorDifference difference = {.name = a.name, .first = side(a), .second = side(b), .values = {}};
    if (a.shape != b.shape) {
      advance(a, a.data.size());
      return difference;
    }
    if (same_bytes(a, b, first_, second_)) {
      advance(a, a.data.size());
      return std::nullopt;
    }
    const ChangeSums sums = compare_values(a, b, [&](int64_t begin, int64_t count) {
      const auto bytes = bytes_of(a, begin, count);
      first_.release(bytes);
      second_.release(bytes_of(b, begin, count));
      advance(a, bytes.size());
    });
    difference.values = values_of(sums);
    if (options_.tolerance && sums.max_abs <= *options_.tolerance && sums.not_finite == 0)
      return std::nullopt;
    return difference;
  }

  void advance(const TensorView& tensor, uint64_t bytes) {
    done_ += bytes;
    if (options_.progress) options_.progress(done_, total_, tensor.name);
  }

  const Weights& first_;
  const Weights& second_;
  const DiffOptions& options_;
  uint64_t done_ = 0, total_ = 0;
};

}  // namespace

WeightDiff diff_weights(const std::filesystem::path& first, const std::filesystem::path& second,
                        const DiffOptions& options) {
  const Weights a = open_weights(first), b = open_weights(second);
  WeightDiff diff;
  compare_keys(a, b, diff);
  Comparison(a, b, options).run(diff);
  return diff;
}

}  // namespace gatewright
