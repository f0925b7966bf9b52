// The level controller: how wide the cloud computes, so that answers hold the latency objective.
//
// It narrows when the predicted delay, or the measured sojourn time of too many requests, passes
// kLimit of the objective. It widens one step when the wider level is predicted to stay below the
// same limit for kHoldS. Where the demand exceeds what the wider level can do, but the prediction
// holds, it tries after kProbeS: clients that wait for their answers ask for less at a wider level. A
// step up that has to be taken back is not repeated until a waiting time is over, which doubles each
// time, or until the demand is lower. So a steady load settles, and one spike does not leave the cloud
// narrow.
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

  // The level from now on.
  //   delays_s[i]    predicted delay of the newest request if all that waits ran at level i
  //   demand[i]      work that is asked for, as a share of the capacity at level i
  //   measured_late  too many requests have taken longer than `limit_s` lately
  std::size_t update(double now_s, const std::vector<double>& delays_s,
                     const std::vector<double>& demand, bool measured_late = false);

 private:
  // A step up that was taken back: the demand then, and when to try again.
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
  std::vector<std::optional<double>> raised_s_;  // when each level in use was last widened to
  std::vector<std::optional<Failure>> failures_;
};

// Work that was asked for lately, by level, over a window of about a second.
class Demand {
 public:
  explicit Demand(std::size_t count, double window_s = 0.5);

  // Adds work that takes work_s[i] seconds at level i.
  void add(double now_s, const std::vector<double>& work_s);

  // Seconds of work asked for in a second, by level.
  std::vector<double> shares(double now_s);

 private:
  double turn(double now_s);

  double window_s_;
  std::optional<double> start_s_;
  std::vector<double> now_;
  std::vector<double> before_;
};

// How many requests took longer than a limit, over two windows in turn.
class SojournTimes {
 public:
  explicit SojournTimes(double window_s = 0.25) : window_s_(window_s) {}

  // Counts `total` requests, of which `late` were.
  void add(double now_s, std::int64_t late, std::int64_t total = 1);

  // Whether more than one in a hundred was late, and more than one at all.
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
