// What the tests of text share: a folder that goes away again, and a tokenizer whose ids are bytes.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/base/error.h"
#include "gatewright/text/corpus.h"
#include "gatewright/text/token_cache.h"

namespace gatewright {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "gatewright-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) fail("cannot make a folder like {}", name);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  /// Writes a file, with its folders, and gives its path.
  std::filesystem::path write(const std::string& name, std::string_view content) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
    return file;
  }

 private:
  std::filesystem::path path_;
};

/// The message of the error that the call ends with.
template <typename Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

/// Ids 0 to 255 are bytes, 256 is the end of text.
inline constexpr int32_t kEnd = 256;
inline TokenizerFacts byte_tokenizer() { return {.fingerprint = 7, .vocab_size = 257, .end_of_text = kEnd}; }
inline void encode_bytes(std::string_view text, std::vector<int32_t>& ids) {
  for (char c : text) ids.push_back(static_cast<unsigned char>(c));
}
inline std::vector<int32_t> byte_lengths() {
  std::vector<int32_t> lengths(257, 1);
  lengths[kEnd] = 0;
  return lengths;
}

/// Everything in the training part.
inline Corpus training_corpus(std::vector<Document> documents) {
  return Corpus::from_documents(std::move(documents), {.validation_share = 0});
}

}  // namespace gatewright
