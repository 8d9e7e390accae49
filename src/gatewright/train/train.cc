#include "gatewright/train/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/experts/packed_tensor.h"
#include "gatewright/train/checkpoint_folder.h"
#include "gatewright/train/device.h"
#include "gatewright/train/metrics.h"
#include "gatewright/train/objective.h"
#include "gatewright/train/starting_model.h"

namespace gatewright {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// A checkpoint beside its successor, or beside the finished model.
void check_output_room(const std::filesystem::path& out, const OutputSize& size) {
  const uint64_t overhead = uint64_t{1} << 16;  // headers, configuration, tokenizer
  check_room(out, size.checkpoint + std::max(size.checkpoint, size.finished) + 4 * overhead,
             std::max(2 * size.checkpoint / 3, size.finished) + overhead);
}

/// Packed weights are computed with on the CPU only: that is where they go when nobody says otherwise.
at::Device device_for(const Decoder& model, const std::string& device) {
  const bool packed =
      std::ranges::any_of(model.parameters(), [](const NamedTensor& p) { return is_packed(p.tensor); });
  return packed && device == "auto" ? at::Device(at::kCPU) : choose_device(device);
}

class Training {
 public:
  Training(const TrainRequest& request, const Corpus& corpus, Events& events)
      : request_(request),
        corpus_(corpus),
        events_(events),
        folder_(request.out),
        options_(request.recipe.train),
        start_(starting_model(request.recipe)),
        init_key_(start_->fingerprint()) {
    given_tokenizer_ = start_->tokenizer();
    if (!request_.recipe.data.tokenizer.empty())
      given_tokenizer_ = Tokenizer::load(request_.recipe.data.tokenizer);
    if (request_.tokenizer) given_tokenizer_ = *request_.tokenizer;
    data_key_ = data_fingerprint(corpus_, given_tokenizer_ ? &*given_tokenizer_ : nullptr);
  }

  TrainOutcome run() {
    require(!corpus_.validation().empty() && !corpus_.train().empty(),
            "there is too little text to train on: {} bytes leave nothing for training or for validation",
            corpus_.bytes());
    check_source();
    if (finished_before()) return {.kind = TrainOutcome::Kind::kAlreadyFinished, .steps = options_.steps};
    const auto checkpoint = usable_checkpoint();
    const bool is_new = !std::filesystem::exists(request_.out);
    make_folder(request_.out);
    try {
      check_output_room(request_.out, start_->output_size());
    } catch (...) {
      std::error_code error;
      if (is_new) std::filesystem::remove(request_.out, error);
      throw;
    }
    if (request_.restart) folder_.remove_all();
    Tokenizer tokenizer = given_tokenizer_ ? *given_tokenizer_
                          : checkpoint     ? folder_.checkpoint_tokenizer()
                                       : train_tokenizer(corpus_, request_.recipe.model.vocab_size, events_);
    TrainingData data = prepare_data(corpus_, std::move(tokenizer), cache_folder(), events_);
    check_output_room(request_.out, start_->output_size());  // beside the cache
    return train(data, checkpoint);
  }

 private:
  std::filesystem::path cache_folder() const {
    return request_.cache.empty() ? request_.out / "cache" : request_.cache;
  }

  /// --restart would remove what the training begins with.
  void check_source() const {
    if (start_->source().empty()) return;
    const std::filesystem::path source = std::filesystem::weakly_canonical(start_->source()),
                                out = std::filesystem::weakly_canonical(request_.out);
    if (source == out || source.parent_path() == out)
      fail("{} holds the model that the training begins with; give another --out", request_.out.string());
  }

  void require_same(const TrainingRecord& record, const char* what) const {
    const Json mine = Json::parse(request_.recipe.settings), theirs = Json::parse(record.settings);
    if (mine == theirs && record.data == data_key_ && record.init == init_key_) return;
    std::string difference = record.init == init_key_ ? "the data is not the same"
                                                      : "the model that it begins with is not the same";
    if (mine != theirs) {
      const Json change = Json::diff(theirs, mine).front();
      std::string key = change["path"].get<std::string>();
      key.erase(0, 1);
      std::ranges::replace(key, '/', '.');
      difference = fmt::format("{} is not the same", key);
    }
    fail("{} holds {} with other settings ({}); give another --out, or --restart to throw it away",
         request_.out.string(), what, difference);
  }

  bool finished_before() const {
    if (request_.restart) return false;
    if (const auto record = folder_.finished()) {
      require_same(*record, "a finished training");
      events_.note(fmt::format("{} is finished already ({} steps): nothing to do", request_.out.string(),
                               options_.steps));
      return true;
    }
    if (folder_.has_foreign_model())
      fail("{} holds a model that was not trained here; give another --out, or --restart to throw it away",
           request_.out.string());
    return false;
  }

  std::optional<TrainingRecord> usable_checkpoint() const {
    if (request_.restart) return std::nullopt;
    auto record = folder_.checkpoint();
    if (record) require_same(*record, "an unfinished training");
    return record;
  }

  TrainOutcome train(TrainingData& data, const std::optional<TrainingRecord>& checkpoint) {
    const auto objective = objectives().at(options_.objective.name).make(options_.objective.values);
    Decoder model = start_->make(data.tokenizer.vocab_size() + objective->extra_tokens());
    model.to(device_for(model, options_.device));
    TrainStream stream(data.cache, options_.sequence_length, data.token_bytes, request_.recipe.seed);
    Trainer trainer(model, stream, options_);
    if (checkpoint) {
      start_->load_checkpoint(folder_.existing_checkpoint(), model);
      folder_.load_moments(trainer.state());
      trainer.restore(trainer.state(), checkpoint->progress, (request_.out / "checkpoint").string());
      events_.note(fmt::format("going on after step {} of {}", trainer.steps_done(), options_.steps));
    }
    folder_.truncate_metrics(trainer.steps_done());
    describe(data, model);
    warn_about_routers(model.spec());
    Metrics metrics(folder_.metrics(), events_);
    const std::string tokenizer_json = data.tokenizer.to_json();
    const auto save = [&] {
      folder_.save_checkpoint(
          [&](const std::filesystem::path& to) { start_->save_checkpoint(to, model, tokenizer_json); },
          trainer.state(), record(trainer));
    };
    TrainOutcome outcome{.steps = trainer.steps_done()};
    int64_t tokens = 0, window_tokens = 0, saved_at = checkpoint ? trainer.steps_done() : -1;
    double training_seconds = 0, window_seconds = 0;
    while (trainer.steps_done() < options_.steps) {
      if (interrupted()) {
        if (saved_at != trainer.steps_done()) save();
        outcome.kind = TrainOutcome::Kind::kInterrupted;
        outcome.steps = trainer.steps_done();
        return outcome;
      }
      const auto start = Clock::now();
      const StepResult result = trainer.step();
      const double seconds = seconds_since(start);
      tokens += result.tokens, window_tokens += result.tokens;
      training_seconds += seconds, window_seconds += seconds;
      const int64_t step = trainer.steps_done();
      events_.progress("training", "steps", static_cast<double>(step), static_cast<double>(options_.steps));
      if (step == 1 || step % options_.log_every == 0 || step == options_.steps) {
        metrics.add(step_row(trainer, result, static_cast<double>(window_tokens) / window_seconds));
        window_tokens = 0, window_seconds = 0;
      }
      if (step < options_.steps && options_.evaluate_every > 0 && step % options_.evaluate_every == 0)
        metrics.add(validation_row(validate_now(model, data, options_.evaluate_tokens), data, step));
      if (step < options_.steps && options_.checkpoint_every > 0 && step % options_.checkpoint_every == 0) {
        save();
        saved_at = step;
      }
    }
    outcome.steps = options_.steps;
    outcome.tokens_per_second = training_seconds > 0 ? static_cast<double>(tokens) / training_seconds : 0;
    const ValidationResult validation = validate_now(model, data, options_.last_evaluate_tokens);
    if (interrupted()) {
      save();
      outcome.kind = TrainOutcome::Kind::kInterrupted;
      return outcome;
    }
    metrics.add(validation_row(validation, data, options_.steps));
    outcome.validation_bits_per_byte = validation.all.bits_per_byte();
    start_->save_finished(request_.out, model, tokenizer_json);
    folder_.save_record(record(trainer));
    folder_.remove_checkpoint();
    std::error_code error;
    if (request_.cache.empty()) std::filesystem::remove_all(cache_folder(), error);
    return outcome;
  }

  TrainingRecord record(const Trainer& trainer) const {
    return {.settings = request_.recipe.settings,
            .data = data_key_,
            .init = init_key_,
            .progress = Json::parse(trainer.progress().dump())};
  }

  void describe(const TrainingData& data, const Decoder& model) const {
    const ParameterCounts counts = count_parameters(model.spec());
    const int64_t trained = model.num_parameters();
    events_.note(fmt::format(
        "model: {:.2f} M parameters, {:.2f} M active{}; text: {} training and {} validation tokens",
        static_cast<double>(counts.total) / 1e6, static_cast<double>(counts.active) / 1e6,
        trained < counts.total ? fmt::format(", {:.3g} M trained", static_cast<double>(trained) / 1e6) : "",
        data.cache.tokens(Part::kTrain), data.cache.tokens(Part::kValidation)));
    for (const std::string& note : start_->notes(model)) events_.note(note);
  }

  /// Each warning once, whichever layers it is about.
  void warn_about_routers(const DecoderSpec& spec) const {
    std::set<std::string> told;
    const auto warn = [&](const RouterSpec& router, int64_t num_experts) {
      for (const std::string& warning : router_warnings(router, num_experts)) {
        if (told.insert(warning).second) events_.warn(warning);
      }
    };
    for (const FeedForwardSpec& layer : spec.layers) {
      if (layer.routed) warn(layer.router, layer.num_experts);
    }
    if (spec.selective_attention) warn(spec.selective_attention->router, spec.num_heads);
  }

  ValidationResult validate_now(Decoder& model, const TrainingData& data, int64_t tokens) const {
    const int64_t sequences = tokens > 0 ? std::max<int64_t>(1, tokens / options_.sequence_length) : 0;
    ValidationStream stream(data.cache, options_.sequence_length, data.token_bytes, Part::kValidation,
                            sequences);
    int64_t done = 0;
    return validate_on(model, stream, options_.batch_size, std::ssize(data.cache.domains()),
                       [&](const PackedBatch& packed, const DecoderOutput&) {
                         done += packed.sequences;
                         events_.progress("evaluating", "sequences", static_cast<double>(done),
                                          static_cast<double>(stream.sequences()));
                       });
  }

  const TrainRequest& request_;
  const Corpus& corpus_;
  Events& events_;
  TrainingFolder folder_;
  TrainOptions options_;
  std::unique_ptr<StartingModel> start_;
  std::string init_key_, data_key_;
  std::optional<Tokenizer> given_tokenizer_;
};

}  // namespace

std::string data_fingerprint(const Corpus& corpus, const Tokenizer* given_tokenizer) {
  return fmt::format("{:016x}-{:016x}", corpus.fingerprint(),
                     given_tokenizer ? given_tokenizer->fingerprint() : 0);
}

TrainOutcome train_model(const TrainRequest& request, const Corpus& corpus, Events& events) {
  return Training(request, corpus, events).run();
}

}  // namespace gatewright
