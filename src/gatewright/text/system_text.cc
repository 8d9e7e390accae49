#include "gatewright/text/system_text.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "gatewright/base/error.h"
#include "gatewright/base/hash.h"

namespace gatewright {
namespace {

namespace fs = std::filesystem;

/// Where a kind of text lies. In a folder's path "*" stands for the rest of a name: "usr/lib/python3*".
struct Place {
  std::string_view domain, folder;
  bool recursive;
  /// What names end with; "" for names without a dot. None: any name.
  std::vector<std::string_view> endings;
};

const std::vector<Place>& places() {
  static const std::vector<Place> all = {
      {"c", "usr/include", false, {".h"}},
      {"c", "usr/include/linux", true, {".h"}},
      {"c", "usr/include/asm-generic", true, {".h"}},
      {"c", "usr/include/*/asm", true, {".h"}},
      {"c", "usr/include/*/bits", true, {".h"}},
      {"c", "usr/include/*/sys", true, {".h"}},
      {"cmake", "usr/share/cmake*", true, {".cmake"}},
      {"cpp", "usr/include/c++", true, {"", ".h", ".hpp", ".tcc"}},
      {"licences",
       "usr/share/common-licenses",
       false,
       {"", ".txt", "-1.0", "-1.1", "-2", "-2.0", "-2.1", "-3", "-1.2", "-1.3"}},
      {"licences", "usr/share/doc/*", false, {"copyright"}},
      {"manual", "usr/share/cmake*/Help", true, {".rst"}},
      {"manual", "usr/share/man/man*", false, {".gz"}},
      {"perl", "usr/share/perl*", true, {".pm", ".pod"}},
      {"python", "usr/lib/python3*", true, {".py"}},
  };
  return all;
}

bool name_matches(std::string_view pattern, std::string_view name) {
  const size_t star = pattern.find('*');
  return star == std::string_view::npos ? pattern == name : name.starts_with(pattern.substr(0, star));
}

/// The real folders (no links) below `root` that the pattern names.
std::vector<fs::path> matching_folders(const fs::path& root, const fs::path& pattern) {
  std::vector<fs::path> folders = {root};
  for (const fs::path& part : pattern) {
    std::vector<fs::path> next;
    for (const fs::path& folder : folders) {
      std::error_code error;
      for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
        std::error_code ignored;
        if (!name_matches(part.native(), entry->path().filename().native())) continue;
        if (entry->is_directory(ignored) && !entry->is_symlink(ignored)) next.push_back(entry->path());
      }
    }
    folders = std::move(next);
  }
  return folders;
}

bool name_fits(const Place& place, std::string_view name) {
  return place.endings.empty() || std::ranges::any_of(place.endings, [&](std::string_view ending) {
           return ending.empty() ? name.find('.') == std::string_view::npos : name.ends_with(ending);
         });
}

template <typename Iterator>
void add_files(const fs::path& folder, const Place& place, std::vector<fs::path>& files) {
  std::error_code error;
  Iterator entry(folder, fs::directory_options::skip_permission_denied, error);
  for (; !error && entry != Iterator(); entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_symlink(ignored) || !entry->is_regular_file(ignored)) continue;
    if (name_fits(place, entry->path().filename().native())) files.push_back(entry->path());
  }
}

/// The documents of one domain, up to its limit.
std::vector<Document> read_domain(const SystemDomain& domain, const SystemTextOptions& options,
                                  std::set<Hash128>& seen) {
  constexpr int64_t kTiny = 256;
  DocumentOptions limits;
  limits.max_unpacked_bytes = std::max<int64_t>(options.max_bytes_per_domain / 10, 1);
  std::vector<Document> documents;
  int64_t bytes = 0;
  const auto take = [&](Document document) {
    const int64_t size = static_cast<int64_t>(document.text.size());
    if (size < kTiny || size > limits.max_unpacked_bytes || bytes + size > options.max_bytes_per_domain)
      return;
    if (!seen.insert(hash128(document.text)).second) return;
    document.domain = domain.name;
    bytes += size;
    documents.push_back(std::move(document));
  };
  for (const fs::path& path : domain.paths) {
    if (bytes > options.max_bytes_per_domain - limits.max_unpacked_bytes / 10) break;
    std::error_code error;
    if (const auto size = fs::file_size(path, error);
        error || std::cmp_greater(size, limits.max_unpacked_bytes))
      continue;
    try {
      read_documents(std::span(&path, 1), limits, take);
    } catch (const Error&) {
      // Binary, damaged or not ours to read: there are others.
    }
  }
  return documents;
}

}  // namespace

std::vector<SystemDomain> find_system_text(const fs::path& root) {
  std::vector<SystemDomain> domains;
  for (const Place& place : places()) {
    if (domains.empty() || domains.back().name != place.domain)
      domains.push_back({.name = std::string(place.domain), .paths = {}});
    for (const fs::path& folder : matching_folders(root, place.folder)) {
      if (place.recursive)
        add_files<fs::recursive_directory_iterator>(folder, place, domains.back().paths);
      else
        add_files<fs::directory_iterator>(folder, place, domains.back().paths);
    }
  }
  // Sorted by a hash of the name, the first files of a domain are a fair sample of it.
  const auto key = [&](const fs::path& path) {
    std::string name = path.lexically_relative(root).string();
    return std::pair(hash_bytes(name), std::move(name));
  };
  for (SystemDomain& domain : domains) std::ranges::sort(domain.paths, {}, key);
  std::erase_if(domains, [](const SystemDomain& domain) { return domain.paths.empty(); });
  return domains;
}

Corpus read_system_text(const std::vector<SystemDomain>& domains, const SystemTextOptions& options,
                        const CorpusOptions& corpus_options) {
  std::vector<Document> all;
  std::set<Hash128> seen;
  std::string found;
  int enough = 0;
  for (const SystemDomain& domain : domains) {
    std::vector<Document> documents = read_domain(domain, options, seen);
    int64_t bytes = 0;
    for (const Document& document : documents) bytes += static_cast<int64_t>(document.text.size());
    found += fmt::format("{}{} {} kB", found.empty() ? "" : ", ", domain.name, bytes / 1000);
    if (bytes < options.min_bytes_per_domain) continue;
    ++enough;
    std::ranges::move(documents, std::back_inserter(all));
  }
  require(enough >= 2,
          "this machine has too little text to learn from ({}); at least two kinds of {} kB are needed",
          found.empty() ? "none was found" : "found " + found, options.min_bytes_per_domain / 1000);
  return Corpus::from_documents(std::move(all), corpus_options);
}

}  // namespace gatewright
