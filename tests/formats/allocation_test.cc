// Any one allocation that fails ends the work in std::bad_alloc, and nothing half-written stays.
#include <gmock/gmock.h>

#include <cstdlib>
#include <functional>
#include <new>

#include "gatewright/formats/gguf.h"
#include "gatewright/formats/imatrix.h"
#include "gatewright/formats/quantize.h"
#include "gatewright/formats/safetensors.h"
#include "gatewright/formats/weight_diff.h"
#include "tests/formats/gguf_maker.h"
#include "tests/testing.h"

namespace {

/// So many allocations of this thread succeed, then one fails; negative: none does.
thread_local int64_t allocations_left = -1;

void* allocate_or_null(std::size_t size) {
  if (allocations_left >= 0 && allocations_left-- == 0) return nullptr;
  return std::malloc(size > 0 ? size : 1);
}

void* allocate(std::size_t size) {
  if (void* memory = allocate_or_null(size)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate_or_null(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return allocate_or_null(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

namespace gatewright {
namespace {

using testing::ElementsAre;

/// Lets the work fail at its first allocation, its second, and so on until it comes through; gives how often
/// it failed.
int failures(
    const std::function<void()>& work, const std::function<void()>& after_failure = [] {}) {
  for (int allowed = 0; allowed < 100'000; ++allowed) {
    bool failed = false;
    allocations_left = allowed;
    try {
      work();
    } catch (const std::bad_alloc&) {
      failed = true;
    } catch (const std::exception& error) {
      allocations_left = -1;
      ADD_FAILURE() << "after " << allowed << " allocations: " << error.what();
    }
    allocations_left = -1;
    if (!failed) return allowed;
    after_failure();
  }
  ADD_FAILURE() << "no end";
  return 0;
}

TEST(OutOfMemory, ReadingGgufEndsInBadAlloc) {
  const std::string file = small_gguf().bytes();
  EXPECT_GT(failures([&] {
              const Gguf gguf = parse_gguf(std::as_bytes(std::span(file)), "model.gguf");
              gguf.metadata.texts("tokenizer.ggml.tokens");
            }),
            20);
}

TEST(OutOfMemory, ReadingSafetensorsEndsInBadAlloc) {
  const std::string file =
      raw_string(R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})") +
      "1234";
  EXPECT_GT(failures([&] { parse_safetensors(std::as_bytes(std::span(file)), "model.safetensors"); }), 10);
}

TEST(OutOfMemory, WritingLeavesWhatWasThere) {
  const TemporaryFolder folder;
  const auto in = folder.write("in.gguf", small_gguf().bytes());
  folder.write("out.gguf", "what was there");
  const QuantizeOptions options = {.rules = QuantizeRules("a.weight=q4_0")};
  const int failed = failures([&] { quantize_gguf(in, folder / "out.gguf", options); },
                              [&] {
                                EXPECT_EQ(read_file(folder / "out.gguf"), "what was there");
                                EXPECT_THAT(folder.files(), ElementsAre("in.gguf", "out.gguf"));
                              });
  EXPECT_GT(failed, 50);
  EXPECT_NE(read_file(folder / "out.gguf"), "what was there");
  EXPECT_GT(failures([&] { diff_weights(in, folder / "out.gguf"); }), 50);
}

TEST(OutOfMemory, RulesAndImportanceEndInBadAlloc) {
  const TemporaryFolder folder;
  ImportanceMatrix matrix;
  matrix.weights["w"] = {.columns = 2, .matrices = 1, .squares = {1, 2}, .counts = {1}};
  EXPECT_GT(failures([&] { write_imatrix(folder / "i.gguf", matrix); }), 10);
  EXPECT_GT(failures([&] { read_imatrix(folder / "i.gguf"); }), 20);
  EXPECT_GT(failures([] { QuantizeRules rules("ffn_.*_exps=q4_k,q8_0"); }), 10);
}

}  // namespace
}  // namespace gatewright
