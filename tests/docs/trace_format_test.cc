// The example of docs/trace-format.md is what the writer writes and the reader reads.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <sstream>

#include "gatewright/base/file.h"
#include "gatewright/formats/routing_trace.h"
#include "tests/text/test_text.h"

namespace gatewright {
namespace {

const std::string kPage = read_file(std::filesystem::path(GATEWRIGHT_SOURCE_DIR) / "docs/trace-format.md");

/// The bytes of the page's hex dump: after the address, up to 16 numbers, then the characters.
std::string documented_bytes() {
  const std::string fence = "```hex\n";
  const size_t begin = kPage.find(fence) + fence.size(), end = kPage.find("```", begin);
  std::istringstream lines(kPage.substr(begin, end - begin));
  std::string bytes;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream numbers(line.substr(10, 48));
    for (std::string number; numbers >> number;) bytes += static_cast<char>(std::stoi(number, nullptr, 16));
  }
  return bytes;
}

TraceBatch example_batch() {
  return {.token = {258, 10},
          .domain = {1, -1},
          .layers = {{.row_begin = {0, 2, 2},
                      .expert = {0, 2},
                      .weight = {0.75F, 0.25F},
                      .margin = {0.125F, std::numeric_limits<float>::quiet_NaN()}}}};
}

TEST(TraceFormat, ExampleIsWhatTheWriterWrites) {
  const TemporaryFolder folder;
  TraceWriter writer(
      folder / "example.trace",
      {.layers = {{.layer = 1, .num_experts = 4}}, .domains = {"c", "text"}, .vocab_size = 300});
  writer.add(example_batch());
  writer.finish();
  EXPECT_EQ(read_file(folder / "example.trace"), documented_bytes());
}

TEST(TraceFormat, ExampleIsWhatTheReaderReads) {
  const std::string bytes = documented_bytes();
  TraceReader reader(std::as_bytes(std::span(bytes)), "the page");
  EXPECT_EQ(reader.header().vocab_size, 300);
  EXPECT_EQ(reader.header().domains, (std::vector<std::string>{"c", "text"}));
  const TraceBatch batch = reader.next().value(), wanted = example_batch();
  EXPECT_EQ(batch.token, wanted.token);
  EXPECT_EQ(batch.domain, wanted.domain);
  EXPECT_EQ(batch.layers[0].expert, wanted.layers[0].expert);
  EXPECT_EQ(batch.layers[0].weight, wanted.layers[0].weight);
  EXPECT_EQ(batch.layers[0].margin[0], 0.125F);
  EXPECT_TRUE(std::isnan(batch.layers[0].margin[1]));
  EXPECT_FALSE(reader.next());
}

/// The second table of the example walks through the dump: the bytes that it shows stand where it says.
TEST(TraceFormat, TableOfTheExampleAgreesWithItsBytes) {
  const std::string bytes = documented_bytes();
  std::istringstream lines(kPage.substr(kPage.find("| at | bytes |")));
  size_t rows = 0;
  for (std::string line; std::getline(lines, line) && line.starts_with("|");) {
    const size_t last = line.rfind('|', line.size() - 2);
    const std::string shown = line.substr(7, last - 7);
    if (shown.find('`') == std::string::npos) continue;
    std::string hex = shown, wanted;
    for (char& c : hex) c = c == '`' || c == '|' ? ' ' : c;
    std::istringstream numbers(hex);
    for (std::string number; numbers >> number;) wanted += static_cast<char>(std::stoi(number, nullptr, 16));
    EXPECT_EQ(bytes.substr(std::stoul(line.substr(2, 2), nullptr, 16), wanted.size()), wanted) << line;
    ++rows;
  }
  EXPECT_EQ(rows, 16U);
}

TEST(TraceFormat, WriterRefusesWhatTheFileCannotHold) {
  const TemporaryFolder folder;
  EXPECT_THROW(TraceWriter(folder / "t", {.layers = {{.layer = 0, .num_experts = 65536}}, .vocab_size = 1}),
               Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "t"));
}

}  // namespace
}  // namespace gatewright
