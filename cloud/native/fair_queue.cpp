#include "fair_queue.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace taper {
namespace {

// Each client earns the seconds of this many samples in a round, and also when it comes.
constexpr double kTurnSamples = 8;

}  // namespace

Item::Item(Key key, std::string client, std::int64_t samples, double arrived_s, double deadline_s)
    : key(key),
      client(std::move(client)),
      samples(samples),
      arrived_s(arrived_s),
      deadline_s(deadline_s),
      expected(samples) {}

std::int64_t Item::waiting() const {
  return left ? 0 : std::max<std::int64_t>(expected - started, 1);
}

ItemPtr FairQueue::Turn::next() const {
  for (const ItemPtr& item : items) {
    if (!item->held) return item;
  }
  return nullptr;
}

bool FairQueue::Group::available() const {
  return std::any_of(turns.begin(), turns.end(),
                     [](const Turn& turn) { return turn.next() != nullptr; });
}

double FairQueue::Group::oldest_s() {
  while (arrivals.front()->left) arrivals.pop_front();
  return arrivals.front()->arrived_s;
}

FairQueue::FairQueue(std::int64_t max_batch, double max_delay_s)
    : max_batch_(max_batch), max_delay_s_(max_delay_s) {
  if (max_batch < 1) throw std::invalid_argument("max_batch: must be at least 1");
}

std::int64_t FairQueue::client_samples(std::string_view client) const {
  const auto found = clients_.find(client);
  return found == clients_.end() ? 0 : found->second.samples;
}

std::vector<std::pair<Key, std::int64_t>> FairQueue::by_key() const {
  std::vector<std::pair<Key, std::int64_t>> found;
  found.reserve(groups_.size());
  for (const Group& group : groups_) found.emplace_back(group.key, group.samples);
  return found;
}

FairQueue::Groups::iterator FairQueue::find(const Key& key) {
  return std::find_if(groups_.begin(), groups_.end(),
                      [&key](const Group& group) { return group.key == key; });
}

void FairQueue::put(const ItemPtr& item) {
  const bool timed = std::isfinite(item->sample_s) && item->sample_s > 0.0 &&
                     std::isfinite(item->once_s) && item->once_s >= 0.0;
  if (item->samples < 1 || !timed || item->started != 0 || item->left) {
    throw std::invalid_argument("item: must have samples that take time, and be new");
  }
  auto group = find(item->key);
  if (group == groups_.end()) {
    group = groups_.emplace(groups_.end());
    group->key = item->key;
  }
  group->arrivals.push_back(item);
  const auto known = group->turn_of.find(item->client);
  if (known != group->turn_of.end()) {
    known->second->items.push_back(item);
  } else {
    group->turns.push_back({item->client, {item}});
    group->turn_of.emplace(item->client, std::prev(group->turns.end()));
  }
  // A client that comes gets credit, so that it is served next, unless it is still in debt.
  if (clients_.find(item->client) == clients_.end()) {
    credit_s_.try_emplace(item->client, kTurnSamples * item->sample_s + item->once_s);
  }
  ++requests_;
  once_s_ += item->once_s;
  ++clients_[item->client].requests;
  add(*group, item->client, item->waiting());
}

std::vector<Slice> FairQueue::take(double now_s, std::optional<bool> native) {
  const auto group = next_group(now_s, native);
  if (group == groups_.end()) return {};
  if (clients_.size() == 1) credit_s_.clear();  // credit only matters between clients
  groups_.splice(groups_.end(), groups_, group);
  const auto filled = [&] {
    auto batch = fill(*group, true);
    return batch.empty() ? fill(*group, false) : batch;
  };
  auto batch = filled();
  while (batch.empty()) {
    earn(*group);
    batch = filled();
  }
  if (group->turns.empty()) groups_.erase(group);
  if (groups_.empty()) credit_s_.clear();
  return batch;
}

bool FairQueue::drop(const ItemPtr& item) {
  if (item->left) return false;
  const auto group = find(item->key);
  leave(*group, item, item->waiting());
  if (group->turns.empty()) groups_.erase(group);
  return true;
}

void FairQueue::decoded(const ItemPtr& item) {
  const std::int64_t before = item->waiting();
  item->expected = item->samples;
  if (!item->left) add(*find(item->key), item->client, item->waiting() - before);
}

void FairQueue::charge(std::string_view client, double seconds) {
  if (!groups_.empty()) credit_s_[std::string(client)] -= seconds;
}

// Fills a batch with requests that run as a whole, or (unless `whole`) with slices. Empty if there
// is not enough credit for any. If all waiting items of the group are of that kind, clients earn
// more credit until the batch is full.
std::vector<Slice> FairQueue::fill(Group& group, bool whole) {
  std::vector<Slice> batch;
  std::int64_t room = max_batch_;
  bool mixed = false;
  std::size_t skipped = 0;  // clients in a row that were passed over
  while (!group.turns.empty() && room > 0) {
    const auto turn = group.turns.begin();
    const ItemPtr item = turn->next();
    const bool other = item == nullptr || this->whole(*item) != whole;
    if (!other && whole && item->samples > room) break;
    const bool alone = group.turns.size() == 1 && !mixed;
    const std::int64_t samples = other ? 0 : affordable(*item, room, alone);
    group.turns.splice(group.turns.end(), group.turns, turn);
    if (samples > 0) {
      skipped = 0;
      room -= samples;
      extend(group, batch, item, samples);
      continue;
    }
    mixed |= other;
    if (++skipped >= group.turns.size()) {
      if (mixed || batch.empty()) break;
      earn(group);
      skipped = 0;
    }
  }
  return batch;
}

double FairQueue::credit_s(const std::string& client) const {
  const auto found = credit_s_.find(client);
  return found == credit_s_.end() ? 0.0 : found->second;
}

// Number of samples of an item that its client's credit pays for, at most `room`. A client that is
// alone needs no credit.
std::int64_t FairQueue::affordable(const Item& item, std::int64_t room, bool alone) const {
  const std::int64_t samples = std::min(item.samples - item.started, room);
  if (alone) return samples;
  const double credit = credit_s(item.client) - (item.started == 0 ? item.once_s : 0.0);
  if (whole(item)) return credit >= static_cast<double>(samples) * item.sample_s ? samples : 0;
  const double paid = std::floor(std::max(credit / item.sample_s, 0.0));
  return paid >= static_cast<double>(samples) ? samples : static_cast<std::int64_t>(paid);
}

// Gives all clients of a group the rounds of credit that the client with the least need lacks.
void FairQueue::earn(Group& group) {
  std::vector<ItemPtr> heads;
  for (const Turn& turn : group.turns) {
    if (ItemPtr next = turn.next()) heads.push_back(std::move(next));
  }
  double sample_s = 0.0;
  for (const ItemPtr& item : heads) sample_s = std::max(sample_s, item->sample_s);
  const double turn_s = kTurnSamples * sample_s;
  double least = std::numeric_limits<double>::infinity();
  for (const ItemPtr& item : heads) least = std::min(least, rounds(*item, turn_s));
  least = std::max(least, 1.0);
  for (const ItemPtr& item : heads) credit_s_[item->client] += least * turn_s;
}

double FairQueue::rounds(const Item& item, double turn_s) const {
  double needed_s = (whole(item) ? static_cast<double>(item.samples) : 1.0) * item.sample_s;
  if (item.started == 0) needed_s += item.once_s;
  return std::ceil((needed_s - credit_s(item.client)) / turn_s);
}

// Moves the next samples of an item from the queue to `batch`.
void FairQueue::extend(Group& group, std::vector<Slice>& batch, const ItemPtr& item,
                       std::int64_t samples) {
  const Slice taken{item, item->started, item->started + samples};
  const auto credit = credit_s_.find(item->client);
  if (credit != credit_s_.end()) credit->second -= taken.predicted_s();
  if (taken.start == 0) once_s_ -= item->once_s;
  const auto same = [&item](const Slice& slice) { return slice.item == item; };
  const auto known = taken.start == 0 ? batch.end() : std::find_if(batch.begin(), batch.end(), same);
  if (known == batch.end()) {
    batch.push_back(taken);
  } else {
    known->stop = taken.stop;
  }
  const std::int64_t before = item->waiting();
  item->started = taken.stop;
  if (item->started == item->samples) {
    leave(group, item, before);
  } else {
    add(group, item->client, item->waiting() - before);
  }
}

// Removes an item. `waiting`: number of its samples that are counted as waiting.
void FairQueue::leave(Group& group, const ItemPtr& item, std::int64_t waiting) {
  const auto turn = group.turn_of.at(item->client);
  auto& items = turn->items;
  items.erase(std::find(items.begin(), items.end(), item));
  if (items.empty()) {
    group.turns.erase(turn);
    group.turn_of.erase(item->client);
  }
  add(group, item->client, -waiting);
  if (item->started == 0) once_s_ -= item->once_s;
  item->left = true;
  if (--requests_ == 0) once_s_ = 0.0;  // removes accumulated rounding errors
  const auto client = clients_.find(item->client);
  if (--client->second.requests > 0) return;
  clients_.erase(client);
  const auto credit = credit_s_.find(item->client);
  // A client that leaves loses its unused credit but keeps its debt.
  if (credit != credit_s_.end() && credit->second >= 0.0) credit_s_.erase(credit);
}

void FairQueue::add(Group& group, const std::string& client, std::int64_t samples) {
  group.samples += samples;
  samples_ += samples;
  clients_[client].samples += samples;
}

FairQueue::Groups::iterator FairQueue::next_group(double now_s, std::optional<bool> native) {
  auto fullest = groups_.end();
  std::int64_t most = -1;
  for (auto group = groups_.begin(); group != groups_.end(); ++group) {
    if ((native && group->key.native != *native) || !group->available()) continue;
    if (now_s - group->oldest_s() >= max_delay_s_) return group;
    const std::int64_t samples = std::min(group->samples, max_batch_);
    if (samples > most) {
      fullest = group;
      most = samples;
    }
  }
  return fullest;
}

}  // namespace taper
