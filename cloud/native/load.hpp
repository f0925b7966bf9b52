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

// What answers say of the load: a share of the capacity, and a lower device level if the cloud cannot
// narrow any further.
struct Hints {
  double load = 0.0;
  std::optional<std::uint32_t> suggested_level;
};

// Adds up work that was verified or refused for lack of room, and chooses the cloud's level. Keeps
// every model that it has seen until `unused` gives it away. For one thread at a time.
class LoadMonitor {
 public:
  // `threads` compute at the same time; `fraction` is the cloud's, if it is fixed.
  LoadMonitor(double objective_s, std::optional<double> fraction, std::size_t threads);

  // Chooses among the fractions of these models from now on.
  void serve(const std::vector<std::shared_ptr<Model>>& models);

  // The cloud's fraction for requests that do not pin a level, and its index, 0 the narrowest.
  double fraction() const { return fractions_[controller_.level()]; }
  std::size_t rung() const { return controller_.level(); }

  // Share of the capacity in use; above 1 if more is asked for than can be done.
  double load(double now_s);

  // The cloud level of requests to `model` that pin none.
  std::size_t level_of(const std::shared_ptr<Model>& model);

  // The cloud level at which `key` of a model that is known would run now.
  std::size_t cloud_level(const Key& key);

  // Counts `samples` in some batches as asked for.
  void offer(const Key& key, std::int64_t samples, double decode_s, std::int64_t batches = 1);

  // Counts the sojourn time of a request: queue, compute and the event loop's backlog.
  void answered(double now_s, double sojourn_s);

  // Seconds until all that waits is done, at each fraction. `rest_s` is left of the running batches,
  // `once_s` is spent besides the samples.
  std::vector<double> delays_s(double rest_s, double once_s,
                               const std::vector<std::pair<Key, std::int64_t>>& waiting);

  // Updates demand and level, given the predicted delays.
  void observe(double now_s, const std::vector<double>& delays_s, bool at_once = false);

  // Takes in the share of time that the server is at work, and by how much it wakes too late.
  void tick(double now_s, double busy, double lag_s);

  // Whether devices are asked for less, as the cloud cannot narrow any further.
  bool crowded() const;

  // The load, from the one on which answers carry it.
  std::optional<double> hinted_load() const { return hinted_load_; }
  std::optional<Hints> hints_for(int level) const;

  // Models that nobody else holds and that are served no more. Whoever calls drops them.
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
