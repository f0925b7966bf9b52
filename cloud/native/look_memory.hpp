// The requests of one stream at which the server asked for another look, for a moment.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <string_view>

namespace taper {

// What is known of a later look.
enum class LaterLook { kKnown, kUnknown, kTwice, kOtherVersion };

// Knows later looks that cannot be right. Nothing depends on what it has forgotten: a later look
// comes whole. Times are seconds of any clock; any thread may call.
class LookMemory {
 public:
  // Remembers for `keep_s` that another look was asked for.
  void asked(double now_s, std::uint64_t id, std::string_view version, double keep_s);

  // Takes note that a later look is answered. Of kOtherVersion `first` becomes the version of the
  // first look.
  LaterLook looked(double now_s, std::uint64_t id, std::string_view version, std::string& first);

 private:
  struct Asked {
    std::uint64_t id;
    double until_s;
    std::string version;
    bool answered;
  };

  std::mutex mutex_;
  std::list<Asked> asked_;  // the oldest first
};

}  // namespace taper
