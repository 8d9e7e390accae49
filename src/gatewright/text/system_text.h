// Real text that a machine able to build this program has anyway: headers, modules, manuals, licences. So a
// first run needs no download.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "gatewright/text/corpus.h"

namespace gatewright {

struct SystemDomain {
  std::string name;
  /// Files, in an order that depends on their names below the root only.
  std::vector<std::filesystem::path> paths;
};

/// Looks for C++ and C headers, Perl, Python and CMake modules, manuals and licences where Debian keeps them.
/// Domains without files are left out.
std::vector<SystemDomain> find_system_text(const std::filesystem::path& root = "/");

struct SystemTextOptions {
  int64_t max_bytes_per_domain = 3'000'000;
  /// A domain with less is left out.
  int64_t min_bytes_per_domain = 200'000;
};

/// Takes files of each domain in the order given until the domain is full; passes over ones that are tiny,
/// larger than a tenth of a domain, seen before or not readable. Less than two domains with enough text is an
/// error that says what was found.
Corpus read_system_text(const std::vector<SystemDomain>& domains, const SystemTextOptions& options = {},
                        const CorpusOptions& corpus_options = {});

}  // namespace gatewright
