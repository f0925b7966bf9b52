// The level controller chooses how wide the cloud computes, so that answers keep the latency
// objective.
//
// It narrows when the predicted delay exceeds the share kLimit of the objective, or when the
// measured sojourn time of too many requests does. It widens by one step when the delay at the
// wider level has been predicted to stay below the same limit for kHoldS. If the demand exceeds the
// capacity of the wider level, but the predicted delay stays below the limit, it widens after
// kProbeS: clients that wait for each answer before they send the next request send fewer at a
// wider level. A step up that has to be taken back is not repeated until a waiting time is over,
// which doubles each time, or until the demand is lower. Therefore the level settles under a steady
// load, and a single spike does not leave the cloud narrow.
//
// Times are seconds of any clock. For one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace taper {

// Chooses a level from 0, the narrowest, to `count` - 1.
class LevelController {
 public:
  // Throws std::invalid_argument if there is no level.
  LevelController(std::size_t count, double objective_s);

  // The level that is in use.
  std::size_t level() const { return level_; }

  // The delay above which the controller narrows.
  double limit_s() const { return limit_s_; }

  // Chooses and returns the level from now on.
  //   delays_s[i]    predicted delay of the newest request if all waiting requests ran at level i
  //   demand[i]      demand as a share of the capacity at level i
  //   measured_late  whether too many of the latest requests took longer than `limit_s`
  std::size_t update(double now_s, const std::vector<double>& delays_s,
                     const std::vector<double>& demand, bool measured_late = false);

 private:
  // A step up that was taken back: the demand at that time, and when to try again.
  struct Failure {
    double demand;
    double until_s;
    double wait_s;
  };

  void narrow(double now_s, std::size_t target, const std::vector<double>& demand);
  void widen(double now_s, const std::vector<double>& delays_s, const std::vector<double>& demand);
  bool failed_lately(double now_s, std::size_t wider, const std::vector<double>& demand) const;

  double limit_s_;
  std::size_t level_;
  std::optional<double> fit_since_s_;
  double changed_s_;
  std::vector<std::optional<double>> raised_s_;  // when the controller last widened to each level
  std::vector<std::optional<Failure>> failures_;
};

// Recent demand by level, over a window of about a second.
class Demand {
 public:
  explicit Demand(std::size_t count, double window_s = 0.5);

  // Adds work that takes work_s[i] seconds at level i.
  void add(double now_s, const std::vector<double>& work_s);

  // Seconds of work that were asked for per second, by level.
  std::vector<double> shares(double now_s);

 private:
  double turn(double now_s);

  double window_s_;
  std::optional<double> start_s_;
  std::vector<double> now_;
  std::vector<double> before_;
};

// Counts the requests that took longer than a limit, over the present window and the one before.
class SojournTimes {
 public:
  explicit SojournTimes(double window_s = 0.25) : window_s_(window_s) {}

  // Counts `total` requests, `late` of which took longer than the limit.
  void add(double now_s, std::int64_t late, std::int64_t total = 1);

  // Whether more than one request in a hundred was late, and more than one in number.
  bool late(double now_s);

  // Forgets all counts.
  void clear();

 private:
  struct Counts {
    std::int64_t late = 0;
    std::int64_t total = 0;
  };

  void turn(double now_s);

  double window_s_;
  double start_s_ = 0.0;
  Counts now_;
  Counts before_;
};

}  // namespace taper
