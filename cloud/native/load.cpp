#include "load.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace taper {
namespace {

constexpr double kObserveS = 0.005;  // work is added up for this long before it counts as demand
constexpr double kLoaded = 0.75;     // least load at which answers carry hints
constexpr double kCrowded = 0.9;     // least load at which hints ask for a lower device level
// Narrowing helps only if computing takes at least this share of the capacity.
constexpr double kLeastCompute = 0.25;

}  // namespace

LoadMonitor::LoadMonitor(double objective_s, std::optional<double> fraction, std::size_t threads)
    : objective_s_(objective_s),
      fixed_(fraction.has_value()),
      threads_(static_cast<double>(std::max<std::size_t>(threads, 1))),
      fractions_{fraction.value_or(1.0)},
      controller_(1, objective_s),
      demand_(1) {}

void LoadMonitor::serve(const std::vector<std::shared_ptr<Model>>& models) {
  std::set<double> found;
  for (const auto& model : models) {
    found.insert(model->cloud_fractions().begin(), model->cloud_fractions().end());
  }
  const std::vector<double> before = fractions_;
  if (!fixed_ && !found.empty()) fractions_.assign(found.begin(), found.end());
  offered_.clear();
  if (fractions_ != before) {
    controller_ = LevelController(fractions_.size(), objective_s_);
    demand_ = Demand(fractions_.size());
  }
  for (auto& [number, known] : models_) {
    known.served = false;
    place(known);
  }
  for (const auto& model : models) know(model).served = true;
}

LoadMonitor::Known& LoadMonitor::know(const std::shared_ptr<Model>& model) {
  const auto [found, is_new] = models_.try_emplace(model->number());
  if (is_new) {
    found->second.model = model;
    place(found->second);
  }
  return found->second;
}

void LoadMonitor::place(Known& known) const {
  known.levels.clear();
  for (const double fraction : fractions_) known.levels.push_back(known.model->level_for(fraction));
}

double LoadMonitor::load(double now_s) {
  return std::max(demand_.shares(now_s)[controller_.level()], busy_);
}

std::size_t LoadMonitor::level_of(const std::shared_ptr<Model>& model) {
  return know(model).levels[controller_.level()];
}

std::size_t LoadMonitor::cloud_level(const Key& key) {
  if (key.pinned != kNotPinned) return static_cast<std::size_t>(key.pinned);
  return models_.at(key.model).levels[controller_.level()];
}

void LoadMonitor::offer(const Key& key, std::int64_t samples, double decode_s,
                        std::int64_t batches) {
  Work& work = offered_[key];
  work.batches += batches;
  work.samples += samples;
  work.decode_s += decode_s;
}

void LoadMonitor::answered(double now_s, double sojourn_s) {
  sojourn_.add(now_s, sojourn_s > controller_.limit_s() - lag_s_ ? 1 : 0);
}

std::vector<double> LoadMonitor::delays_s(
    double rest_s, double once_s, const std::vector<std::pair<Key, std::int64_t>>& waiting) {
  std::vector<double> delays(fractions_.size(), rest_s + once_s);
  for (const auto& [key, samples] : waiting) add_run(delays, key, 1, samples);
  for (double& delay : delays) delay /= threads_;
  return delays;
}

void LoadMonitor::observe(double now_s, const std::vector<double>& delays_s, bool at_once) {
  if (at_once || now_s - observed_s_ >= kObserveS) {
    observed_s_ = now_s;
    std::vector<double> work_s(fractions_.size(), 0.0);
    for (const auto& [key, work] : offered_) {
      add_run(work_s, key, work.batches, work.samples);
      for (double& total : work_s) total += work.decode_s;
    }
    for (double& total : work_s) total /= threads_;
    offered_.clear();
    demand_.add(now_s, work_s);
  }
  const auto demand = demand_.shares(now_s);
  const std::size_t level = controller_.level();
  const bool late = demand[level] >= kLeastCompute && sojourn_.late(now_s);
  if (controller_.update(now_s, delays_s, demand, late) != level) sojourn_.clear();
}

void LoadMonitor::tick(double now_s, double busy, double lag_s) {
  busy_ = busy;
  lag_s_ = lag_s;
  const double load = this->load(now_s);
  hinted_load_.reset();
  if (load >= kLoaded) hinted_load_ = std::round(load * 100) / 100;
}

bool LoadMonitor::crowded() const {
  return hinted_load_ && *hinted_load_ >= kCrowded && controller_.level() == 0;
}

std::optional<Hints> LoadMonitor::hints_for(int level) const {
  if (!hinted_load_) return std::nullopt;
  Hints hints{*hinted_load_, std::nullopt};
  if (crowded()) hints.suggested_level = static_cast<std::uint32_t>(std::max(level - 1, 0));
  return hints;
}

std::vector<std::shared_ptr<Model>> LoadMonitor::unused() {
  std::vector<std::shared_ptr<Model>> gone;
  for (auto known = models_.begin(); known != models_.end();) {
    if (!known->second.served && known->second.model.use_count() == 1) {
      gone.push_back(std::move(known->second.model));
      known = models_.erase(known);
    } else {
      ++known;
    }
  }
  return gone;
}

// Adds to `sums`, for each fraction, the predicted seconds of `samples` in `batches`.
void LoadMonitor::add_run(std::vector<double>& sums, const Key& key, std::int64_t batches,
                          std::int64_t samples) const {
  const Known& known = models_.at(key.model);
  for (std::size_t place = 0; place < sums.size(); ++place) {
    const std::size_t level =
        key.pinned == kNotPinned ? known.levels[place] : static_cast<std::size_t>(key.pinned);
    const auto [fixed_s, sample_s] =
        known.model->costs.run_fit(static_cast<std::size_t>(key.level), level);
    sums[place] += static_cast<double>(batches) * fixed_s + static_cast<double>(samples) * sample_s;
  }
}

}  // namespace taper
