#include "gatewright/text/system_text.h"

#include <gmock/gmock.h>

#include "tests/text/test_text.h"

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// About 1,000 bytes that differ from file to file.
std::string page(int number) {
  std::string text;
  while (text.size() < 1000)
    text += "page " + std::to_string(number) + " line " + std::to_string(text.size()) + "\n";
  return text;
}

void write_pages(const TemporaryFolder& root, const std::string& folder, const std::string& ending,
                 int count) {
  for (int i = 0; i < count; ++i)
    root.write(folder + "/f" + std::to_string(i) + ending, folder + "\n" + page(i));
}

TEST(SystemText, FindsKindsOfTextWhereTheyLie) {
  const TemporaryFolder root;
  write_pages(root, "usr/include/c++/12/bits", "", 30);
  write_pages(root, "usr/include/linux", ".h", 20);
  write_pages(root, "usr/share/perl/5.36.0/Deep/er", ".pm", 20);
  write_pages(root, "usr/share/perl/5.36.0/Deep/er", ".txt", 20);
  root.write("usr/lib/python3.11/a.py", page(1));
  root.write("usr/share/doc/some/copyright", page(2));
  root.write("usr/share/doc/some/changelog", page(3));
  const std::vector<SystemDomain> domains = find_system_text(root.path());
  std::vector<std::pair<std::string, size_t>> sizes;
  for (const SystemDomain& domain : domains) sizes.emplace_back(domain.name, domain.paths.size());
  EXPECT_THAT(sizes, ElementsAre(std::pair("c", 20), std::pair("cpp", 30), std::pair("licences", 1),
                                 std::pair("perl", 20), std::pair("python", 1)));
}

TEST(SystemText, FillsEachDomainToItsLimitAndLeavesOutSmallOnes) {
  const TemporaryFolder root;
  write_pages(root, "usr/include/c++/12", ".h", 40);
  write_pages(root, "usr/include/linux", ".h", 15);
  write_pages(root, "usr/share/perl", ".pm", 3);
  root.write("usr/include/linux/huge.h", std::string(5000, 'x'));
  root.write("usr/include/linux/binary.h", std::string(1000, '\0'));
  const SystemTextOptions options{.max_bytes_per_domain = 25'000, .min_bytes_per_domain = 10'000};
  const Corpus corpus = read_system_text(find_system_text(root.path()), options, {.validation_share = 0});
  EXPECT_THAT(corpus.domains(), ElementsAre("c", "cpp"));
  std::vector<int64_t> bytes(2, 0), count(2, 0);
  for (const CorpusDocument& document : corpus.train()) {
    bytes[document.domain] += static_cast<int64_t>(document.text.size());
    ++count[document.domain];
  }
  EXPECT_EQ(count[0], 15);
  EXPECT_LE(bytes[1], 25'000);
  EXPECT_GE(bytes[1], 23'500);
  // The same files in another place give the same corpus.
  const TemporaryFolder copy;
  std::filesystem::copy(root.path(), copy.path(), std::filesystem::copy_options::recursive);
  EXPECT_EQ(read_system_text(find_system_text(copy.path()), options, {.validation_share = 0}).fingerprint(),
            corpus.fingerprint());
}

TEST(SystemText, SaysWhatAMachineWithoutTextHas) {
  const TemporaryFolder root;
  EXPECT_THAT(error_of([&] { read_system_text(find_system_text(root.path())); }),
              HasSubstr("none was found"));
  write_pages(root, "usr/include/linux", ".h", 15);
  EXPECT_THAT(error_of([&] { read_system_text(find_system_text(root.path())); }), HasSubstr("found c 15 kB"));
}

}  // namespace
}  // namespace gatewright
