// JSON lines of any bytes end in documents with text and clean domains, or in an error.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gatewright/base/error.h"
#include "gatewright/text/json_lines.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gatewright;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  ReadSummary summary;
  int64_t documents = 0, text_bytes = 0;
  try {
    read_json_lines(bytes, "input", "input", {.max_document_bytes = 4096}, summary,
                    [&](const Document& document) {
                      ++documents;
                      text_bytes += static_cast<int64_t>(document.text.size());
                      if (document.text.empty() || document.text.size() > 4096) std::abort();
                      if (document.domain.empty() || clean_domain_name(document.domain) != document.domain)
                        std::abort();
                    });
  } catch (const Error&) {
  }
  if (documents != summary.documents || text_bytes != summary.bytes) std::abort();
  looks_binary(bytes);
  return 0;
}
