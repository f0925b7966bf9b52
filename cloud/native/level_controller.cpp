#include "level_controller.hpp"

#include <algorithm>
#include <stdexcept>

namespace taper {
namespace {

// See level_controller.hpp for kLimit (a share of the objective), kHoldS and kProbeS.
constexpr double kLimit = 0.7;
constexpr double kHoldS = 0.6;
constexpr double kProbeS = 5.0;
constexpr double kSettleS = 0.3;      // for so long, measured times may be of the level before
constexpr double kProbationS = 30.0;  // a step up that is taken back within this time has failed
constexpr double kLongestWaitS = 60.0;
constexpr double kLessDemand = 0.8;  // demand below this share of that at a failure is lower

}  // namespace

LevelController::LevelController(std::size_t count, double objective_s)
    : limit_s_(kLimit * objective_s),
      level_(count - 1),
      changed_s_(-kSettleS),
      raised_s_(count),
      failures_(count) {
  if (count == 0) throw std::invalid_argument("count: must be at least 1");
}

std::size_t LevelController::update(double now_s, const std::vector<double>& delays_s,
                                    const std::vector<double>& demand, bool measured_late) {
  if (delays_s.size() != raised_s_.size() || demand.size() != raised_s_.size()) {
    throw std::invalid_argument("delays_s, demand: must have one value for each level");
  }
  if (delays_s[level_] > limit_s_) {
    std::size_t target = level_;
    while (target > 0 && (target == level_ || delays_s[target] > limit_s_)) --target;
    narrow(now_s, target, demand);
  } else if (measured_late) {
    fit_since_s_.reset();
    if (now_s - changed_s_ >= kSettleS) narrow(now_s, level_ == 0 ? 0 : level_ - 1, demand);
  } else {
    widen(now_s, delays_s, demand);
  }
  return level_;
}

void LevelController::narrow(double now_s, std::size_t target, const std::vector<double>& demand) {
  fit_since_s_.reset();
  if (target == level_) return;
  for (std::size_t level = target + 1; level <= level_; ++level) {
    // All levels that are left have failed if they were widened to lately, not only the present
    // one.
    const auto raised_s = raised_s_[level];
    raised_s_[level].reset();
    if (!raised_s || now_s - *raised_s >= kProbationS) continue;
    auto& failure = failures_[level];
    const double wait_s = failure ? std::min(2 * failure->wait_s, kLongestWaitS) : kProbeS;
    failure = Failure{demand[0], now_s + wait_s, wait_s};
  }
  level_ = target;
  changed_s_ = now_s;
}

void LevelController::widen(double now_s, const std::vector<double>& delays_s,
                            const std::vector<double>& demand) {
  for (std::size_t level = 0; level < raised_s_.size(); ++level) {
    if (!raised_s_[level] || now_s - *raised_s_[level] < kProbationS) continue;
    raised_s_[level].reset();
    failures_[level].reset();
  }
  const std::size_t wider = level_ + 1;
  // If the present level cannot keep up with the demand, a wider one cannot either.
  const bool behind = demand[level_] > 1.0;
  if (wider >= raised_s_.size() || behind || delays_s[wider] > limit_s_) {
    fit_since_s_.reset();
    return;
  }
  if (!fit_since_s_) fit_since_s_ = now_s;
  const double hold_s = demand[wider] <= 1.0 ? kHoldS : kProbeS;
  if (now_s - *fit_since_s_ < hold_s || failed_lately(now_s, wider, demand)) return;
  level_ = wider;
  raised_s_[wider] = now_s;
  changed_s_ = now_s;
  fit_since_s_ = now_s;
}

bool LevelController::failed_lately(double now_s, std::size_t wider,
                                    const std::vector<double>& demand) const {
  const auto& failure = failures_[wider];
  return failure && now_s < failure->until_s && demand[0] >= kLessDemand * failure->demand;
}

Demand::Demand(std::size_t count, double window_s)
    : window_s_(window_s), now_(count, 0.0), before_(count, 0.0) {}

void Demand::add(double now_s, const std::vector<double>& work_s) {
  if (work_s.size() != now_.size()) {
    throw std::invalid_argument("work_s: must have one value for each level");
  }
  turn(now_s);
  for (std::size_t i = 0; i < now_.size(); ++i) now_[i] += work_s[i];
}

std::vector<double> Demand::shares(double now_s) {
  const double gone = std::min((now_s - turn(now_s)) / window_s_, 1.0);
  std::vector<double> shares(now_.size());
  for (std::size_t i = 0; i < now_.size(); ++i) {
    shares[i] = (before_[i] * (1.0 - gone) + now_[i]) / window_s_;
  }
  return shares;
}

double Demand::turn(double now_s) {
  double start_s = start_s_.value_or(now_s);
  if (now_s - start_s >= window_s_) {
    const bool whole = now_s - start_s < 2 * window_s_;
    before_.swap(now_);
    if (!whole) std::fill(before_.begin(), before_.end(), 0.0);
    std::fill(now_.begin(), now_.end(), 0.0);
    start_s = whole ? start_s + window_s_ : now_s;
  }
  start_s_ = start_s;
  return start_s;
}

void SojournTimes::add(double now_s, std::int64_t late, std::int64_t total) {
  turn(now_s);
  now_.late += late;
  now_.total += total;
}

bool SojournTimes::late(double now_s) {
  turn(now_s);
  const std::int64_t late = now_.late + before_.late;
  const std::int64_t total = now_.total + before_.total;
  return late > std::max<std::int64_t>(1, total / 100);
}

void SojournTimes::clear() {
  now_ = {};
  before_ = {};
}

void SojournTimes::turn(double now_s) {
  const double gone_s = now_s - start_s_;
  if (gone_s < window_s_) return;
  before_ = gone_s < 2 * window_s_ ? now_ : Counts{};
  now_ = {};
  start_s_ = now_s;
}

}  // namespace taper
