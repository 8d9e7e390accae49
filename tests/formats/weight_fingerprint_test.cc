#include "gatewright/formats/weight_fingerprint.h"

#include <gtest/gtest.h>

namespace gatewright {
namespace {

std::map<std::string, TensorView> one(const std::vector<std::byte>& bytes, const std::string& name = "w") {
  return {{name,
           {.name = name,
            .dtype = DataType::kU8,
            .shape = {static_cast<int64_t>(bytes.size())},
            .data = std::span(bytes)}}};
}

TEST(WeightFingerprint, ChangesWithNamesShapesAndEveryByteOfSmallTensors) {
  std::vector<std::byte> bytes(1000, std::byte{1});
  const std::string before = weight_fingerprint(one(bytes));
  EXPECT_EQ(before.size(), 32U);
  EXPECT_EQ(weight_fingerprint(one(std::vector<std::byte>(bytes))), before) << "wherever the bytes lie";
  EXPECT_NE(weight_fingerprint(one(bytes, "v")), before);
  auto matrix = one(bytes);
  matrix.at("w").shape = {10, 100};
  EXPECT_NE(weight_fingerprint(matrix), before);
  for (const size_t at : {0, 500, 999}) {
    std::vector<std::byte> changed = bytes;
    changed[at] = std::byte{2};
    EXPECT_NE(weight_fingerprint(one(changed)), before) << at;
  }
}

TEST(WeightFingerprint, LooksAtPiecesOfLargeTensors) {
  std::vector<std::byte> bytes(1 << 20, std::byte{1});
  const std::string before = weight_fingerprint(one(bytes));
  std::vector<std::byte> end = bytes, between = bytes;
  end.back() = std::byte{2};
  between[5000] = std::byte{2};  // pieces begin at 0, 16628, ...
  EXPECT_NE(weight_fingerprint(one(end)), before);
  EXPECT_EQ(weight_fingerprint(one(between)), before);
}

}  // namespace
}  // namespace gatewright
