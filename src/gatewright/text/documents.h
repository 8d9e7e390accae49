// Real text from files: plain files, folders, JSON lines, gzip and zstd, read as documents that know their
// domain.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gatewright {

struct Document {
  std::string domain;
  /// The path; "path:line" for a line of a JSON-lines file and for a piece of a plain file that was cut.
  std::string source;
  std::string text;
};

struct DocumentOptions {
  /// A longer plain file is cut at line ends into several documents; a longer JSON line is an error.
  int64_t max_document_bytes = int64_t{64} << 20;
  /// What one compressed file may unpack to; beyond 64 MB at most 250 times its size.
  int64_t max_unpacked_bytes = int64_t{1} << 30;
};

struct ReadSummary {
  int64_t documents = 0;
  int64_t bytes = 0;       ///< of the documents' text
  int64_t duplicates = 0;  ///< documents left out by whoever compares them (Corpus)
  int64_t binary = 0;      ///< files left out: a NUL byte, or more than a tenth of the bytes is no UTF-8
  int64_t unreadable =
      0;  ///< files and folders left out: no permission, damaged archives, JSON lines without text
  int64_t empty = 0;               ///< files and JSON lines without text
  std::vector<std::string> notes;  ///< what was wrong, for the first ten unreadable files
};

/// Reads files and folders and calls visit for each document, always in the same order (paths as given,
/// inside a folder sorted). "-" is standard input (domain "stdin").
///
/// Domains: inside a folder each top folder is a domain, and files directly in it belong to a domain named
/// like the folder itself. A file given by name is a domain named like it, without extensions. A JSON line
/// may name its own
/// ("domain"). Hidden files and folders inside a folder are left out.
///
/// A file given by name that is binary, empty, damaged or not readable is an error; inside a folder such
/// files are counted. A path that does not exist or gives no document at all is an error that says what was
/// found.
ReadSummary read_documents(std::span<const std::filesystem::path> paths, const DocumentOptions& options,
                           const std::function<void(Document)>& visit);

/// Whether the bytes look like anything but text in UTF-8 (or nearly so).
bool looks_binary(std::string_view bytes);

/// A name that terminals and files can hold: control characters become '_', at most 100 bytes.
std::string clean_domain_name(std::string_view name);

}  // namespace gatewright
