// Every experiment with the budget full, on tiny models and ten steps: that it runs to its end and measures
// numbers. What it finds there means nothing.
#include <gmock/gmock.h>

#include <cmath>

#include "experiments/list.h"
#include "experiments/real_text.h"
#include "gatewright/base/parallel.h"
#include "tests/experiments/real_text_files.h"

namespace gatewright::experiments {
namespace {

constexpr Scale kTiny = {
    .hidden_size = 16, .num_layers = 2, .width = 8, .length = 32, .rows = 8, .steps = 10, .fresh_rows = 16};

struct Enough {};

/// In such small products threads do little but wait for each other.
class OneThread {
 public:
  OneThread() { set_num_threads(1); }
  ~OneThread() { set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_ = num_threads();
};

/// What one seed measures on tiny models. Experiments that are not on text alone train their language models
/// first; what follows is that of the budget fast and left out.
std::vector<Recorder::Measured> measured(const Experiment& experiment, const FullBudget& full) {
  bool finished = false;
  double last = 0;
  Recorder recorder(
      [&](double done) {
        if (finished) throw Enough();
        EXPECT_GE(done, last) << experiment.slug;
        last = done;
        finished = done == 1;
      },
      {}, &full);
  try {
    experiment.run(1, recorder);
  } catch (const Enough&) {
  }
  EXPECT_TRUE(finished) << experiment.slug;
  return recorder.measured();
}

TEST(FullBudget, TrainsOnRealText) {
  const OneThread one_thread;
  TemporaryFolder folder;
  write_real_text(folder);
  Events events;
  const RealText text(folder.path(), events);
  const FullBudget full{.text = text, .scale = kTiny};
  for (const Experiment& e : all_experiments()) {
    const auto numbers = measured(e, full);
    size_t losses = 0;
    for (const Recorder::Measured& m : numbers) {
      if (!m.metric.ends_with("validation loss") && !m.metric.ends_with(": best loss")) continue;
      ++losses;
      // No text is certain after ten steps, nor much worse than an even guess
      EXPECT_LT(m.value, std::log(RealText::kVocabulary) + 1) << e.slug << ", " << m.arm;
      EXPECT_GT(m.value, 1) << e.slug << ", " << m.arm;
    }
    EXPECT_GE(losses, 3u) << e.slug;
  }
}

TEST(FullBudget, HasItsScaleWithTheWidthOfTheExperiment) {
  TemporaryFolder folder;
  write_real_text(folder);
  Events events;
  const RealText text(folder.path(), events);
  const FullBudget full{.text = text};
  const auto ignore = [](double) {};
  EXPECT_EQ(Recorder(ignore).scale(kTiny, 64).width, 8);
  EXPECT_EQ(Recorder(ignore, {}, &full).scale(kTiny, 64).width, 64);
  EXPECT_EQ(Recorder(ignore, {}, &full).scale(kTiny, 64).hidden_size, full_scale().hidden_size);
}

}  // namespace
}  // namespace gatewright::experiments
