#include "gatewright/text/documents.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "gatewright/text/json_lines.h"
#include "tests/compressed_text.h"
#include "tests/text/test_text.h"

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Reading {
  ReadSummary summary;
  std::vector<std::string> lines;  // "domain|source below the folder|text"
};

Reading read(const TemporaryFolder& folder, const std::vector<std::filesystem::path>& paths,
             const DocumentOptions& options = {}) {
  Reading reading;
  const size_t skip = folder.path().string().size() + 1;
  reading.summary = read_documents(paths, options, [&](Document document) {
    reading.lines.push_back(document.domain + "|" + document.source.substr(skip) + "|" + document.text);
  });
  return reading;
}

TEST(Documents, TopFoldersAreDomains) {
  const TemporaryFolder folder;
  folder.write("data/poems/b.txt", "bee");
  folder.write("data/poems/deep/er/a.txt", "ant");
  folder.write("data/code/main.c", "int x;");
  folder.write("data/readme", "hello");
  folder.write("data/.git/config", "hidden");
  folder.write("data/code/.cache", "hidden");
  const Reading reading = read(folder, {folder / "data"});
  EXPECT_THAT(reading.lines, ElementsAre("code|data/code/main.c|int x;", "poems|data/poems/b.txt|bee",
                                         "poems|data/poems/deep/er/a.txt|ant", "data|data/readme|hello"));
  EXPECT_EQ(reading.summary.documents, 4);
  EXPECT_EQ(reading.summary.bytes, 17);
}

TEST(Documents, SeveralPathsAreDomainsByName) {
  const TemporaryFolder folder;
  folder.write("c/x.h", "1");
  folder.write("perl/y.pm", "2");
  folder.write("news.txt.gz", gzip("3"));
  const Reading reading = read(folder, {folder / "perl/", folder / "c", folder / "news.txt.gz"});
  EXPECT_THAT(reading.lines, ElementsAre("perl|perl/y.pm|2", "c|c/x.h|1", "news|news.txt.gz|3"));
}

TEST(Documents, JsonLinesGiveADocumentALineAndMayNameTheirDomain) {
  const TemporaryFolder folder;
  folder.write("d/mixed.jsonl", R"({"text": "one", "domain": "maths"}
{"text": "two\nlines", "id": 5}

{"text": "", "domain": "maths"}
{"domain": "", "text": "\u00e4"})");
  const Reading reading = read(folder, {folder / "d/mixed.jsonl"});
  EXPECT_THAT(reading.lines, ElementsAre("maths|d/mixed.jsonl:1|one", "mixed|d/mixed.jsonl:2|two\nlines",
                                         "mixed|d/mixed.jsonl:5|ä"));
  EXPECT_EQ(reading.summary.empty, 1);
}

TEST(Documents, GzipIsRecognisedByContent) {
  const TemporaryFolder folder;
  folder.write("d/lines.jsonl.gz", gzip("{\"text\": \"packed\"}\n"));
  folder.write("d/page.3", gzip("manual"));
  EXPECT_THAT(read(folder, {folder / "d"}).lines,
              ElementsAre("d|d/lines.jsonl.gz:1|packed", "d|d/page.3|manual"));
}

TEST(Documents, LeavesOutAndCountsWhatIsNoText) {
  const TemporaryFolder folder;
  folder.write("d/picture", std::string_view("\x89PNG\0\1\2", 7));
  folder.write("d/latin", std::string(50, '\xe4'));
  folder.write("d/empty", "");
  folder.write("d/other.jsonl", "{\"question\": \"why?\"}\n");
  folder.write("d/damaged.gz", gzip("some text that is long enough").substr(0, 20));
  std::filesystem::create_symlink("nowhere", folder / "d/broken-link");
  folder.write("d/text", "text with one \xe4 in latin-1 is text still");
  const Reading reading = read(folder, {folder / "d"});
  EXPECT_EQ(reading.lines.size(), 1U);
  EXPECT_EQ(reading.summary.binary, 2);
  EXPECT_EQ(reading.summary.empty, 1);
  EXPECT_EQ(reading.summary.unreadable, 3);
  EXPECT_THAT(reading.summary.notes,
              ElementsAre(HasSubstr("broken-link"), HasSubstr("damaged.gz is cut off"),
                          HasSubstr("other.jsonl:1: no \"text\" in this line (it has: question)")));
}

TEST(Documents, LinksToFoldersAreFollowedOnce) {
  const TemporaryFolder folder;
  folder.write("d/a/x", "x");
  folder.write("elsewhere/y", "y");
  std::filesystem::create_directory_symlink("..", folder / "d/a/up");
  std::filesystem::create_directory_symlink("../elsewhere", folder / "d/b");
  EXPECT_THAT(read(folder, {folder / "d"}).lines, ElementsAre("a|d/a/x|x", "b|d/b/y|y"));
}

TEST(Documents, LongFilesAreCutAtLineEnds) {
  const TemporaryFolder folder;
  folder.write("long", "123\n567\n9\nabcdefghijkä");
  const Reading reading = read(folder, {folder / "long"}, {.max_document_bytes = 8});
  EXPECT_THAT(reading.lines, ElementsAre("long|long:1|123\n567\n", "long|long:3|9\n", "long|long:4|abcdefgh",
                                         "long|long:4|ijkä"));
  // Between the bytes of a character there is no cut.
  EXPECT_THAT(read(folder, {folder / "long"}, {.max_document_bytes = 12}).lines,
              ElementsAre("long|long:1|123\n567\n9\n", "long|long:4|abcdefghijk", "long|long:4|ä"));
}

TEST(Documents, CuttingLosesNothingWhateverTheBytes) {
  const TemporaryFolder folder;
  std::string bytes;
  for (int i = 0; i < 5000; ++i) bytes += i % 11 == 0 ? "\n" : i % 97 == 0 ? "\xa4" : i % 7 == 0 ? "€" : "x";
  folder.write("f", bytes);
  for (const int64_t limit : {1, 2, 3, 5, 50, 1000, 100000}) {
    std::string together;
    const std::vector<std::filesystem::path> paths = {folder / "f"};
    read_documents(paths, {.max_document_bytes = limit}, [&](Document document) {
      EXPECT_LE(document.text.size(), static_cast<size_t>(limit));
      together += document.text;
    });
    EXPECT_EQ(together, bytes) << limit;
  }
}

TEST(Documents, SayWhatWasFoundWhereThereIsNoText) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "empty");
  folder.write("binary/a", std::string_view("\0\0", 2));
  folder.write("binary/b", "");
  folder.write("file", std::string_view("\0\0", 2));
  folder.write("nothing", "");
  EXPECT_THAT(error_of([&] { read(folder, {folder / "missing"}); }),
              HasSubstr("there is no file or folder /"));
  EXPECT_THAT(error_of([&] { read(folder, {folder / "empty"}); }), HasSubstr("empty holds no files"));
  EXPECT_THAT(error_of([&] { read(folder, {folder / "binary"}); }),
              HasSubstr("holds no text: 1 binary, 1 empty and 0 unreadable files"));
  EXPECT_THAT(error_of([&] { read(folder, {folder / "file"}); }), HasSubstr("file is a binary file"));
  EXPECT_THAT(error_of([&] { read(folder, {folder / "nothing"}); }), HasSubstr("nothing holds no text"));
  EXPECT_THAT(error_of([&] { read(folder, {}); }), HasSubstr("no text was given"));
}

std::string json_error(std::string_view lines, const DocumentOptions& options = {}) {
  ReadSummary summary;
  return error_of([&] { read_json_lines(lines, "x.jsonl", "x", options, summary, [](Document) {}); });
}

TEST(Documents, HostileJsonLinesAreErrorsThatNameTheLine) {
  EXPECT_THAT(json_error("{\"text\": \"a\"}\n{\"text\": \"b"), HasSubstr("x.jsonl:2 is not JSON"));
  EXPECT_THAT(json_error("\n[1]"), HasSubstr("x.jsonl:2: a JSON object was expected, found array"));
  EXPECT_THAT(json_error("{\"text\": 5}"),
              HasSubstr("x.jsonl:1: \"text\" holds a number, a string was expected"));
  EXPECT_THAT(json_error("{\"text\": \"a\", \"domain\": []}"), HasSubstr("\"domain\" holds a array"));
  EXPECT_THAT(json_error("{\"text\": \"\xff\"}"), HasSubstr("x.jsonl:1 is not JSON"));
  EXPECT_THAT(json_error("{\"text\": \"\\ud800\"}"), HasSubstr("x.jsonl:1 is not JSON"));
  EXPECT_THAT(json_error("{\"text\": " + std::string(100000, '[')), HasSubstr("nested more than 32 deep"));
  EXPECT_THAT(json_error("{}"), HasSubstr("no \"text\" in this line (it has: nothing)"));
  EXPECT_THAT(json_error("{\"text\": \"0123456789\"}", {.max_document_bytes = 10}),
              HasSubstr("x.jsonl:1: a line of 22 bytes, at most 10 are allowed"));
}

TEST(Documents, AFileDamagedFurtherOnIsAnErrorAlsoInAFolder) {
  const TemporaryFolder folder;
  folder.write("d/a.jsonl", "{\"text\": \"a\"}\n{\"text\": ");
  EXPECT_THAT(error_of([&] { read(folder, {folder / "d"}); }), HasSubstr("a.jsonl:2 is not JSON"));
}

TEST(Documents, ABombIsStoppedAtTheLimit) {
  const TemporaryFolder folder;
  const std::string bomb = gzip(std::string(10'000'000, 'a'));
  ASSERT_LT(bomb.size(), 20'000U);
  folder.write("bomb.gz", bomb);
  EXPECT_THAT(error_of([&] { read(folder, {folder / "bomb.gz"}, {.max_unpacked_bytes = 1 << 20}); }),
              HasSubstr("bomb.gz unpacks to more than the 1 MB allowed"));
}

TEST(Documents, UnpackingALotFromALittleIsABombWhateverTheLimit) {
  const TemporaryFolder folder;
  folder.write("bomb.gz", gzip(std::string(70 << 20, 'a')));
  EXPECT_THAT(error_of([&] { read(folder, {folder / "bomb.gz"}); }),
              HasSubstr("bomb.gz unpacks to more than the 64 MB allowed"));
}

TEST(Documents, ADashIsStandardInput) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  ASSERT_EQ(::write(ends[1], "typed", 5), 5);
  close(ends[1]);
  const int before = dup(STDIN_FILENO);
  dup2(ends[0], STDIN_FILENO);
  std::vector<std::string> found;
  const std::vector<std::filesystem::path> paths = {"-"};
  read_documents(paths, {}, [&](const Document& d) { found = {d.domain, d.source, d.text}; });
  dup2(before, STDIN_FILENO);
  close(before);
  close(ends[0]);
  EXPECT_THAT(found, ElementsAre("stdin", "standard input", "typed"));
}

TEST(Documents, WhatTheVisitorThrowsIsNotTakenForAnUnreadableFile) {
  const TemporaryFolder folder;
  folder.write("d/a", "a");
  const std::vector<std::filesystem::path> paths = {folder / "d"};
  EXPECT_EQ(error_of([&] { read_documents(paths, {}, [](Document) { fail("enough"); }); }), "enough");
}

TEST(DomainNames, HoldNoControlCharactersAndEnd) {
  EXPECT_EQ(clean_domain_name("a\x1b[31m\nb"), "a_[31m_b");
  EXPECT_EQ(clean_domain_name(std::string(99, 'x') + "€€").size(), 99U);
}

}  // namespace
}  // namespace gatewright
