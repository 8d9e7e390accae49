// Routing traces: for every token and routed layer which experts it visited, with what weight, and by what
// margin. docs/trace-format.md describes the file. Plain values, no LibTorch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gatewright/base/file.h"

namespace gatewright {

struct TraceLayer {
  int64_t layer = 0;  // its number in the model
  int64_t num_experts = 0;
  int64_t round = 0;      // of a layer that routes several times in a row
  std::string part = {};  // where it routes: its feed-forward when empty, "heads" of its attention (Union of
                          // Experts), or the adapted projection of its attention ("q_proj")
};

struct TraceHeader {
  std::vector<TraceLayer> layers = {};
  std::vector<std::string> domains = {};
  int64_t vocab_size = 0;
};

/// The choice of one layer for T tokens, in compressed sparse rows over tokens.
struct LayerTrace {
  std::vector<int64_t> row_begin{0};  // [T + 1]
  std::vector<int32_t> expert = {};   // [N], ascending within a token, each once
  std::vector<float> weight = {};     // [N]
  std::vector<float> margin = {};     // [T]  chosen minus best not chosen; NaN when there is no other choice
};

struct TraceBatch {
  std::vector<int32_t> token = {};   // [T]
  std::vector<int32_t> domain = {};  // [T]  index into TraceHeader::domains, -1: none
  std::vector<LayerTrace> layers = {};
};

class TraceWriter {
 public:
  TraceWriter(const std::filesystem::path& path, TraceHeader header);
  /// Fails when the batch does not fit the header or its experts do not ascend. A large batch is written as
  /// several smaller ones.
  void add(const TraceBatch& batch);
  /// Without it nothing is left at `path`.
  void finish();

 private:
  void add_tokens(const TraceBatch& batch, size_t first, size_t last);

  TraceHeader header_;
  AtomicFile file_;
  uint64_t batches_ = 0, tokens_ = 0;
};

class TraceReader {
 public:
  /// Errors name the file. Every batch is checked when it is read.
  explicit TraceReader(const std::filesystem::path& path);
  /// The same from bytes in memory, which must outlive the reader.
  TraceReader(std::span<const std::byte> bytes, std::string name);

  const TraceHeader& header() const { return header_; }
  /// Nothing at the end. A file that was cut off is an error.
  std::optional<TraceBatch> next();

 private:
  void read_header();
  TraceBatch parse_batch(const std::string& raw) const;

  std::optional<MappedFile> file_;
  std::span<const std::byte> bytes_;
  std::string name_;
  TraceHeader header_;
  size_t at_ = 0;
  uint64_t batches_ = 0, tokens_ = 0;
  bool ended_ = false;
};

/// Whether a file begins like a trace.
bool is_trace(const std::filesystem::path& path);

}  // namespace gatewright
