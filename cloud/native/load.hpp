// The load of the server, and the level that follows from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fair_queue.hpp"
#include "level_controller.hpp"
#include "model.hpp"

namespace taper {

// The part of an answer that tells the device of the load: the share of the capacity in use, and a
// lower device level if the cloud cannot narrow any further.
struct Hints {
  double load = 0.0;
  std::optional<std::uint32_t> suggested_level;
};

// Adds up the work that was verified, or refused because the queue was full, and chooses the
// cloud's level. Holds every model that it has seen until `unused` returns it. For one thread at a
// time.
class LoadMonitor {
 public:
  // `fraction`: the cloud's fraction if it is fixed. `threads`: number of compute threads.
  LoadMonitor(double objective_s, std::optional<double> fraction, std::size_t threads);

  // Chooses among the fractions of these models from now on.
  void serve(const std::vector<std::shared_ptr<Model>>& models);

  // The cloud's fraction for requests that do not pin a level, and its index; 0 is the narrowest.
  double fraction() const { return fractions_[controller_.level()]; }
  std::size_t rung() const { return controller_.level(); }

  // Share of the capacity in use; above 1 if more is asked for than can be done.
  double load(double now_s);

  // The cloud level of requests to `model` that pin none.
  std::size_t level_of(const std::shared_ptr<Model>& model);

  // The cloud level at which jobs of `key`, of a known model, would run now.
  std::size_t cloud_level(const Key& key);

  // Counts `samples` that run in this number of batches as demand.
  void offer(const Key& key, std::int64_t samples, double decode_s, std::int64_t batches = 1);

  // Counts the sojourn time of a request: queue, compute and the event loop's backlog.
  void answered(double now_s, double sojourn_s);

  // Predicted seconds until all waiting requests are done, at each fraction. `rest_s`: remaining
  // time of the running batches. `once_s`: time of the waiting requests besides that of their
  // samples.
  std::vector<double> delays_s(double rest_s, double once_s,
                               const std::vector<std::pair<Key, std::int64_t>>& waiting);

  // Updates demand and level, given the predicted delays.
  void observe(double now_s, const std::vector<double>& delays_s, bool at_once = false);

  // Records the share of time in which the server is busy, and the delay with which its event loop
  // wakes.
  void tick(double now_s, double busy, double lag_s);

  // Whether devices are asked for less, as the cloud cannot narrow any further.
  bool crowded() const;

  // The load that answers carry; nothing as long as it is low.
  std::optional<double> hinted_load() const { return hinted_load_; }
  std::optional<Hints> hints_for(int level) const;

  // Removes and returns the models that are no longer served and that nobody else holds.
  std::vector<std::shared_ptr<Model>> unused();

 private:
  // A model, and its level at each of the fractions.
  struct Known {
    std::shared_ptr<Model> model;
    std::vector<std::size_t> levels;
    bool served = false;
  };
  struct Work {
    std::int64_t batches = 0;
    std::int64_t samples = 0;
    double decode_s = 0.0;
  };

  Known& know(const std::shared_ptr<Model>& model);
  void place(Known& known) const;
  void add_run(std::vector<double>& sums, const Key& key, std::int64_t batches,
               std::int64_t samples) const;

  double objective_s_;
  bool fixed_;
  double threads_;
  std::vector<double> fractions_;  // narrowest first
  std::unordered_map<std::uint64_t, Known> models_;
  LevelController controller_;
  Demand demand_;
  SojournTimes sojourn_;
  std::map<Key, Work> offered_;  // not yet counted as demand
  double observed_s_ = 0.0;
  double busy_ = 0.0;
  double lag_s_ = 0.0;
  std::optional<double> hinted_load_;
};

}  // namespace taper
