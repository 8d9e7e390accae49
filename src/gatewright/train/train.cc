#include "gatewright/train/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <set>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/train/checkpoint_folder.h"
#include "gatewright/train/device.h"
#include "gatewright/train/trainer.h"
#include "gatewright/train/training_data.h"
#include "gatewright/train/validation.h"

namespace gatewright {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

OrderedJson routing_json(const RoutingStatistics& s) {
  OrderedJson json = {{"experts_per_token", s.experts_per_token()},
                      {"load_imbalance", s.load_imbalance()},
                      {"dead_experts", s.dead_experts()},
                      {"largest_logit", s.largest_logit()}};
  if (const auto balance = s.balance(); !balance.empty()) {
    json["balance"] = OrderedJson::object();
    for (const auto& [name, value] : balance) json["balance"][name] = value;
  }
  return json;
}

/// metrics.jsonl and the watcher, in one place.
class Metrics {
 public:
  Metrics(const std::filesystem::path& file, Events& events) : events_(events), out_(file, std::ios::app) {
    require(out_.good(), "{} can't be written", file.string());
  }
  void add(const OrderedJson& row) {
    out_ << row.dump() << '\n' << std::flush;
    require(out_.good(), "metrics.jsonl can't be written: is the disk full?");
    events_.metrics(row);
  }

 private:
  Events& events_;
  std::ofstream out_;
};

/// What an output folder will have to hold: a checkpoint beside its successor, each with two moments.
void check_output_room(const std::filesystem::path& out, const DecoderSpec& spec) {
  const auto weights = static_cast<uint64_t>(count_parameters(spec).total) * sizeof(float);
  const uint64_t overhead = uint64_t{1} << 16;  // headers, configuration, tokenizer
  check_room(out, 6 * weights + 4 * overhead, 2 * weights + overhead);
}

class Training {
 public:
  Training(const TrainRequest& request, const Corpus& corpus, Events& events)
      : request_(request),
        corpus_(corpus),
        events_(events),
        folder_(request.out),
        options_(request.recipe.train) {
    if (!request_.tokenizer && !request_.recipe.data.tokenizer.empty())
      given_tokenizer_ = Tokenizer::load(request_.recipe.data.tokenizer);
    if (request_.tokenizer) given_tokenizer_ = *request_.tokenizer;
    data_key_ = data_fingerprint(corpus_, given_tokenizer_ ? &*given_tokenizer_ : nullptr);
  }

  TrainOutcome run() {
    require(!corpus_.validation().empty() && !corpus_.train().empty(),
            "there is too little text to train on: {} bytes leave nothing for training or for validation",
            corpus_.bytes());
    if (finished_before()) return {.kind = TrainOutcome::Kind::kAlreadyFinished, .steps = options_.steps};
    const auto checkpoint = usable_checkpoint();
    const bool is_new = !std::filesystem::exists(request_.out);
    make_folder(request_.out);
    try {
      check_output_room(request_.out, request_.recipe.model);
    } catch (...) {
      std::error_code error;
      if (is_new) std::filesystem::remove(request_.out, error);
      throw;
    }
    if (request_.restart) folder_.remove_all();
    Tokenizer tokenizer = checkpoint ? folder_.checkpoint_tokenizer()
                          : given_tokenizer_
                              ? *given_tokenizer_
                              : train_tokenizer(corpus_, request_.recipe.model.vocab_size, events_);
    TrainingData data = prepare_data(corpus_, std::move(tokenizer), cache_folder(), events_);
    check_output_room(request_.out, request_.recipe.model);  // beside the cache
    return train(data, checkpoint);
  }

 private:
  std::filesystem::path cache_folder() const {
    return request_.cache.empty() ? request_.out / "cache" : request_.cache;
  }

  void require_same(const TrainingRecord& record, const char* what) const {
    const Json mine = Json::parse(request_.recipe.settings), theirs = Json::parse(record.settings);
    if (mine == theirs && record.data == data_key_) return;
    std::string difference = "the data is not the same";
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
    DecoderSpec spec = request_.recipe.model;
    spec.vocab_size = data.tokenizer.vocab_size();
    Decoder model(spec, request_.recipe.seed);
    model.to(choose_device(options_.device));
    TrainStream stream(data.cache, options_.sequence_length, data.token_bytes, request_.recipe.seed);
    Trainer trainer(model, stream, options_);
    if (checkpoint) {
      folder_.load_checkpoint(model, trainer.state());
      trainer.restore(trainer.state(), checkpoint->progress, (request_.out / "checkpoint").string());
      events_.note(fmt::format("going on after step {} of {}", trainer.steps_done(), options_.steps));
    }
    folder_.truncate_metrics(trainer.steps_done());
    describe(data, spec);
    warn_about_routers(spec);
    Metrics metrics(folder_.metrics(), events_);
    const std::string tokenizer_json = data.tokenizer.to_json();
    const auto save = [&] {
      folder_.save_checkpoint(model, trainer.state(), tokenizer_json, record(trainer));
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
    folder_.save_finished(model, tokenizer_json, record(trainer));
    folder_.remove_checkpoint();
    std::error_code error;
    if (request_.cache.empty()) std::filesystem::remove_all(cache_folder(), error);
    return outcome;
  }

  TrainingRecord record(const Trainer& trainer) const {
    return {.settings = request_.recipe.settings,
            .data = data_key_,
            .progress = Json::parse(trainer.progress().dump())};
  }

  void describe(const TrainingData& data, const DecoderSpec& spec) const {
    const ParameterCounts counts = count_parameters(spec);
    events_.note(
        fmt::format("model: {:.2f} M parameters, {:.2f} M active; text: {} training and {} validation tokens",
                    static_cast<double>(counts.total) / 1e6, static_cast<double>(counts.active) / 1e6,
                    data.cache.tokens(Part::kTrain), data.cache.tokens(Part::kValidation)));
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

  static OrderedJson step_row(Trainer& trainer, const StepResult& result, double tokens_per_second) {
    OrderedJson row = {{"step", trainer.steps_done()},          {"loss", result.loss},
                       {"bits_per_byte", result.bits_per_byte}, {"learning_rate", result.learning_rate},
                       {"gradient_norm", result.gradient_norm}, {"tokens_per_second", tokens_per_second}};
    if (trainer.has_disagreement()) row["disagreement"] = result.disagreement;
    if (const RoutingStatistics statistics = trainer.take_statistics(); !statistics.empty())
      row.update(routing_json(statistics));
    if (const RoutingStatistics heads = trainer.take_head_statistics(); !heads.empty())
      row["attention"] = routing_json(heads);
    return row;
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

  static OrderedJson validation_row(const ValidationResult& result, const TrainingData& data, int64_t step) {
    OrderedJson row = {{"step", step},
                       {"validation_loss", result.all.loss()},
                       {"validation_bits_per_byte", result.all.bits_per_byte()},
                       {"domains", OrderedJson::object()}};
    for (size_t d = 0; d < result.domains.size(); ++d) {
      if (result.domains[d].tokens)
        row["domains"][data.cache.domains()[d]] = result.domains[d].bits_per_byte();
    }
    if (!result.routing.empty()) {
      row["validation_experts_per_token"] = result.routing.experts_per_token();
      row["validation_load_imbalance"] = result.routing.load_imbalance();
      for (const LayerStatistics& layer : result.routing.layers()) {
        row["validation_experts_per_token_by_layer"].push_back(layer.experts_per_token());
        row["validation_tokens_by_experts"].push_back(layer.tokens_by_experts);
      }
    }
    return row;
  }

  const TrainRequest& request_;
  const Corpus& corpus_;
  Events& events_;
  TrainingFolder folder_;
  TrainOptions options_;
  std::optional<Tokenizer> given_tokenizer_;
  std::string data_key_;
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
