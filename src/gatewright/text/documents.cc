#include "gatewright/text/documents.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <utility>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/formats/compression.h"
#include "gatewright/text/json_lines.h"
#include "gatewright/text/utf8.h"

namespace gatewright {
namespace {

namespace fs = std::filesystem;

struct FoundFile {
  fs::path path;
  std::string domain;
};

/// The name of a path, also of "." and "folder/".
std::string own_name(const fs::path& path) {
  std::error_code error;
  const fs::path whole = fs::weakly_canonical(path, error);
  std::string name = clean_domain_name((error ? path : whole).filename().string());
  return name.empty() ? "text" : name;
}

/// "news" for news.jsonl.gz.
std::string name_without_extensions(const fs::path& path) {
  std::string name = own_name(path);
  for (const char* extension : {".gz", ".zst", ".jsonl", ".ndjson", ".txt", ".md"}) {
    const size_t length = std::strlen(extension);
    if (name.size() > length && name.ends_with(extension)) name.resize(name.size() - length);
  }
  return name;
}

bool is_json_lines(const fs::path& path) {
  const std::string name = path.filename().string();
  const auto ends = [&](const char* ending) { return name.ends_with(ending); };
  return std::ranges::any_of(
      std::array{".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst"}, ends);
}

class DocumentReader {
 public:
  DocumentReader(const DocumentOptions& options, const std::function<void(Document)>& visit)
      : options_(options), visit_(visit) {}

  void read(const fs::path& path) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (path != "-" && !fs::exists(status)) fail("there is no file or folder {}", path.string());
    if (path == "-" || !fs::is_directory(status)) return read_named_file(path);
    const ReadSummary before = summary_;
    read_folder(path);
    if (summary_.documents == before.documents) fail_without_text(path, before);
  }

  ReadSummary take_summary() { return std::move(summary_); }

 private:
  void read_named_file(const fs::path& path) {
    const ReadSummary before = summary_;
    read_file_documents({.path = path, .domain = path == "-" ? "stdin" : name_without_extensions(path)});
    if (summary_.binary > before.binary)
      fail("{} is a binary file (or not in UTF-8); text, JSON lines, gzip or zstd was expected",
           path.string());
    if (summary_.documents == before.documents) fail("{} holds no text", path.string());
  }

  [[noreturn]] void fail_without_text(const fs::path& path, const ReadSummary& before) const {
    const int64_t binary = summary_.binary - before.binary, empty = summary_.empty - before.empty;
    const int64_t unreadable = summary_.unreadable - before.unreadable;
    if (binary + empty + unreadable == 0) fail("the folder {} holds no files", path.string());
    const std::string why =
        summary_.notes.size() > before.notes.size() ? " (" + summary_.notes.back() + ")" : "";
    fail("the folder {} holds no text: {} binary, {} empty and {} unreadable files{}", path.string(), binary,
         empty, unreadable, why);
  }

  void read_folder(const fs::path& folder) {
    std::vector<FoundFile> files;
    std::set<fs::path> seen;
    collect(folder, own_name(folder), /*top=*/true, seen, files);
    for (const FoundFile& file : files) {
      const int64_t before = visits_;
      try {
        read_file_documents(file);
      } catch (const Error& error) {
        // A file damaged after its first document, or what visit itself throws, is not to be passed over.
        if (visits_ != before) throw;
        count_unreadable(error.what());
      }
    }
  }

  /// Adds the files under the folder in the order of their names; a folder that links lead to twice is read
  /// once.
  void collect(const fs::path& folder, const std::string& domain, bool top, std::set<fs::path>& seen,
               std::vector<FoundFile>& files) {
    std::error_code error;
    if (!seen.insert(fs::weakly_canonical(folder, error)).second) return;
    std::vector<fs::path> entries;
    fs::directory_iterator entry(folder, error);
    for (; !error && entry != fs::directory_iterator(); entry.increment(error))
      entries.push_back(entry->path());
    if (error)
      return count_unreadable(fmt::format("cannot read the folder {}: {}", folder.string(), error.message()));
    std::ranges::sort(entries, {}, [](const fs::path& path) { return path.native(); });
    for (const fs::path& path : entries) {
      const std::string name = path.filename().string();
      if (name.starts_with('.')) continue;
      const fs::file_status status = fs::status(path, error);
      if (fs::is_directory(status)) {
        collect(path, top ? clean_domain_name(name) : domain, false, seen, files);
      } else if (fs::is_regular_file(status)) {
        files.push_back({path, domain});
      } else {
        count_unreadable(fmt::format("{} is not a regular file", path.string()));
      }
    }
  }

  void read_file_documents(const FoundFile& file) {
    const bool json_lines = is_json_lines(file.path);
    const std::string name = file.path == "-" ? "standard input" : file.path.string();
    std::string bytes = read_file(file.path);
    if (detect_compression(bytes) != Compression::kNone)
      bytes = decompress(bytes, name, unpacked_limit(bytes.size()));
    if (bytes.empty()) {
      ++summary_.empty;
    } else if (looks_binary(bytes)) {
      ++summary_.binary;
    } else if (json_lines) {
      read_json_lines(bytes, name, file.domain, options_, summary_,
                      [this](Document d) { visit(std::move(d)); });
    } else {
      add_plain(std::move(bytes), name, file.domain);
    }
  }

  /// Text packs to a fiftieth of its size at best; what claims much more than that is no text.
  size_t unpacked_limit(size_t packed) const {
    constexpr uint64_t kRatio = 250, kAlways = uint64_t{64} << 20;
    const uint64_t most = static_cast<uint64_t>(options_.max_unpacked_bytes);
    return std::min(most, std::max(kAlways, kRatio * packed));
  }

  void add_plain(std::string bytes, const std::string& name, const std::string& domain) {
    const size_t limit = static_cast<size_t>(options_.max_document_bytes);
    if (bytes.size() <= limit) return add({.domain = domain, .source = name, .text = std::move(bytes)});
    int64_t line = 1;
    for (std::string_view rest = bytes; !rest.empty();) {
      const std::string_view piece = rest.substr(0, first_piece(rest, limit));
      add({.domain = domain, .source = fmt::format("{}:{}", name, line), .text = std::string(piece)});
      line += std::ranges::count(piece, '\n');
      rest.remove_prefix(piece.size());
    }
  }

  /// Where to cut: after the last line end within the limit, else before a UTF-8 sequence, else at the limit.
  static size_t first_piece(std::string_view text, size_t limit) {
    if (text.size() <= limit) return text.size();
    if (const size_t line_end = text.rfind('\n', limit - 1); line_end != std::string_view::npos)
      return line_end + 1;
    size_t cut = limit;
    while (cut > 0 && limit - cut < 4 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;
    return cut > 0 && limit - cut < 4 ? cut : limit;
  }

  void add(Document document) {
    ++summary_.documents;
    summary_.bytes += static_cast<int64_t>(document.text.size());
    visit(std::move(document));
  }

  void visit(Document document) {
    ++visits_;
    visit_(std::move(document));
  }

  void count_unreadable(std::string why) {
    constexpr size_t kNotes = 10;
    ++summary_.unreadable;
    if (summary_.notes.size() < kNotes) summary_.notes.push_back(std::move(why));
  }

  const DocumentOptions& options_;
  const std::function<void(Document)>& visit_;
  ReadSummary summary_;
  int64_t visits_ = 0;
};

}  // namespace

bool looks_binary(std::string_view bytes) {
  if (bytes.empty()) return false;
  if (std::memchr(bytes.data(), 0, bytes.size()) != nullptr) return true;
  const std::string_view sample = bytes.substr(0, size_t{1} << 20);
  size_t invalid = 0;
  for (const char *at = sample.data(), *end = at + sample.size(); at < end;) {
    const Utf8Character character = decode_utf8(at, end);
    invalid += character.code == kInvalidUtf8;
    at += character.size;
  }
  return invalid * 10 > sample.size();
}

std::string clean_domain_name(std::string_view name) {
  constexpr size_t kLongest = 100;
  size_t size = std::min(name.size(), kLongest);
  if (size < name.size())
    while (size > 0 && (static_cast<unsigned char>(name[size]) & 0xC0) == 0x80) --size;
  std::string clean(name.substr(0, size));
  for (char& c : clean)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = '_';
  return clean;
}

ReadSummary read_documents(std::span<const fs::path> paths, const DocumentOptions& options,
                           const std::function<void(Document)>& visit) {
  require(!paths.empty(), "no text was given: name files or folders to read");
  require(options.max_document_bytes > 0 && options.max_unpacked_bytes > 0,
          "the size limits of documents must be positive");
  DocumentReader reader(options, visit);
  for (const fs::path& path : paths) reader.read(path);
  return reader.take_summary();
}

}  // namespace gatewright
