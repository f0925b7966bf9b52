// Remembers for a few seconds at which requests of one stream the server asked for another look.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <string_view>

namespace taper {

// Whether a later look belongs to a request that is remembered.
enum class LaterLook { kKnown, kUnknown, kTwice, kOtherVersion };

// Recognises later looks that cannot be valid. Forgetting a request does no harm, as a later look
// is a complete request. Times are seconds of any clock. Any thread may call any method.
class LookMemory {
 public:
  // Remembers for `keep_s` that another look at request `id` was asked for.
  void asked(double now_s, std::uint64_t id, std::string_view version, double keep_s);

  // Records that a later look at request `id` is answered, and returns whether it was expected.
  // With kOtherVersion, `first` is set to the model version of the first look.
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
