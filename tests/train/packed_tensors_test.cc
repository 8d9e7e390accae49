#include "gatewright/train/packed_tensors.h"

#include <gtest/gtest.h>

namespace gatewright {
namespace {

/// Three sequences of four places, the last with two of text.
PackedBatch packed() {
  PackedBatch batch;
  batch.sequences = 3;
  batch.length = 4;
  batch.tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0};
  batch.targets = {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, -1, -1};
  batch.first_key = {0, 0, 0, 0, 0, 0, 2, 2, 0, 0, 2, 3};
  return batch;
}

std::vector<int64_t> values(const Tensor& t) {
  const Tensor plain = t.to(at::kLong).contiguous();
  return {plain.data_ptr<int64_t>(), plain.data_ptr<int64_t>() + plain.numel()};
}

TEST(PackedTensors, FillingIsNoTokenOfAText) {
  const Batch batch = to_batch(packed());
  ASSERT_TRUE(batch.real.defined());
  EXPECT_EQ(batch.real.sum().item<int64_t>(), 10);
}

TEST(PackedTensors, WithoutFillingTheLastSequenceIsAsShortAsItsText) {
  const std::vector<Batch> batches = batches_without_filling(packed());
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_EQ(values(batches[0].tokens), (std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(batches[0].rows(), 2);
  EXPECT_EQ(values(batches[0].first_key), (std::vector<int64_t>{0, 0, 0, 0, 0, 0, 2, 2}));
  EXPECT_EQ(values(batches[1].tokens), (std::vector<int64_t>{9, 10}));
  EXPECT_EQ(values(batches[1].targets), (std::vector<int64_t>{10, 11}));
  EXPECT_EQ(batches[1].length(), 2);
  for (const Batch& batch : batches) EXPECT_FALSE(batch.real.defined());
}

TEST(PackedTensors, AFullBatchStaysOne) {
  PackedBatch full = packed();
  full.targets[10] = full.targets[11] = 3;
  const std::vector<Batch> batches = batches_without_filling(full);
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_EQ(batches[0].rows(), 3);
}

TEST(PackedTensors, ASequenceOfNothingButFillingGivesNone) {
  PackedBatch batch = packed();
  std::fill(batch.targets.begin() + 8, batch.targets.end(), -1);
  EXPECT_EQ(batches_without_filling(batch).size(), 1u);
}

}  // namespace
}  // namespace gatewright
