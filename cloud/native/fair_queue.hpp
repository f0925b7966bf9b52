// Waiting requests, shared between clients by deficit round robin on seconds of work.
//
// All waiting clients earn the same credit of seconds and spend it on their requests (Shreedhar and
// Varghese, "Efficient Fair Queueing Using Deficit Round Robin", 1995). The difference between the
// predicted and the measured time of a batch is charged afterwards. A request that is larger than a
// batch runs in slices. Slices have batches of their own, which run only after the smaller requests
// for which there is credit; so a request of a client that has no other in flight waits for at most
// one batch of others. No request waits for a batch to fill.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

namespace taper {

constexpr int kNotPinned = -1;

// Requests with equal keys may run in one batch.
struct Key {
  std::uint64_t model = 0;  // the model's number
  int level = 0;            // the device level
  int pinned = kNotPinned;  // the cloud level that the caller asked for, if any
  bool native = false;      // computed without Python

  bool operator==(const Key& other) const {
    return model == other.model && level == other.level && pinned == other.pinned &&
           native == other.native;
  }
  bool operator<(const Key& other) const {
    return std::tie(model, level, pinned, native) <
           std::tie(other.model, other.level, other.pinned, other.native);
  }
};

// A waiting request. Only items of one key run together. Times are in seconds.
struct Item {
  Item(Key key, std::string client, std::int64_t samples, double arrived_s, double deadline_s);
  virtual ~Item() = default;

  // Number of samples that the queue expects to still wait.
  std::int64_t waiting() const;

  Key key;
  std::string client;
  std::int64_t samples;
  double arrived_s;
  double deadline_s;
  std::uint64_t number = 0;   // chosen by the caller that puts it into the queue
  double once_s = 0.0;        // predicted time besides that of the samples, e.g. for decoding
  double sample_s = 1.0;      // predicted time of a sample
  std::int64_t expected;      // samples to plan with; less than `samples` if the payload looks too
                              // small for them, until it has been decoded
  std::int64_t started = 0;   // samples that were taken
  bool left = false;          // has left the queue: all samples were taken, or it was dropped
  bool held = false;          // its next slice waits until the one before has been computed
};

using ItemPtr = std::shared_ptr<Item>;

// Samples `start` to `stop` of an item.
struct Slice {
  ItemPtr item;
  std::int64_t start;
  std::int64_t stop;

  std::int64_t samples() const { return stop - start; }

  // Its predicted seconds.
  double predicted_s() const {
    return (start == 0 ? item->once_s : 0.0) + static_cast<double>(samples()) * item->sample_s;
  }
};

// The waiting requests of all clients. The key with the fullest batch is served first, but once an
// item has waited for `max_delay_s`, the key that was served longest ago. For one thread at a time.
class FairQueue {
 public:
  // Throws std::invalid_argument if max_batch is below 1.
  FairQueue(std::int64_t max_batch, double max_delay_s);

  std::int64_t samples() const { return samples_; }
  std::int64_t requests() const { return requests_; }
  double once_s() const { return once_s_; }  // sum of `once_s` over the items that have not started
  std::int64_t clients() const { return static_cast<std::int64_t>(clients_.size()); }

  // Number of samples of `client` that wait.
  std::int64_t client_samples(std::string_view client) const;

  // Whether any request of `client` waits.
  bool waits(std::string_view client) const { return clients_.find(client) != clients_.end(); }

  // The keys of the waiting items, each with its number of waiting samples.
  std::vector<std::pair<Key, std::int64_t>> by_key() const;

  // Adds an item that has not been in a queue before. Throws std::invalid_argument for times and
  // counts that are not positive.
  void put(const ItemPtr& item);

  // Takes the next batch: slices of items of one key, at most `max_batch` samples. Empty if no
  // waiting item may be taken. `native`: take only items whose key has this value, if it is given.
  std::vector<Slice> take(double now_s, std::optional<bool> native = std::nullopt);

  // Removes an item whose answer nobody waits for; false if it has already left.
  bool drop(const ItemPtr& item);

  // Plans with `samples` of an item from now on, as its payload has been decoded.
  void decoded(const ItemPtr& item);

  // Prevents the next slice of an item from being taken, or allows it again.
  void hold(const ItemPtr& item) { item->held = true; }
  void release(const ItemPtr& item) { item->held = false; }

  // Takes `seconds` of credit from `client` after a batch was measured; a negative value gives it
  // back.
  void charge(std::string_view client, double seconds);

 private:
  // The items of one client and one key, in order of arrival.
  struct Turn {
    std::string client;
    std::deque<ItemPtr> items;

    // The first that is not held, or null.
    ItemPtr next() const;
  };
  // The items of one key, in order of arrival and also by client in order of turns.
  struct Group {
    Key key;
    std::deque<ItemPtr> arrivals;
    std::list<Turn> turns;
    std::unordered_map<std::string, std::list<Turn>::iterator> turn_of;
    std::int64_t samples = 0;

    double oldest_s();
    bool available() const;
  };
  struct Waiting {
    std::int64_t samples = 0;
    std::int64_t requests = 0;
  };
  using Groups = std::list<Group>;  // the group that was served longest ago is first

  Groups::iterator find(const Key& key);
  Groups::iterator next_group(double now_s, std::optional<bool> native);
  std::vector<Slice> fill(Group& group, bool whole);
  bool whole(const Item& item) const { return item.samples <= max_batch_; }
  double credit_s(const std::string& client) const;
  std::int64_t affordable(const Item& item, std::int64_t room, bool alone) const;
  void earn(Group& group);
  double rounds(const Item& item, double turn_s) const;
  void extend(Group& group, std::vector<Slice>& batch, const ItemPtr& item, std::int64_t samples);
  void leave(Group& group, const ItemPtr& item, std::int64_t waiting);
  void add(Group& group, const std::string& client, std::int64_t samples);

  std::int64_t max_batch_;
  double max_delay_s_;
  Groups groups_;
  std::map<std::string, Waiting, std::less<>> clients_;
  std::map<std::string, double, std::less<>> credit_s_;
  std::int64_t samples_ = 0;
  std::int64_t requests_ = 0;
  double once_s_ = 0.0;
};

}  // namespace taper
