#include "call.hpp"

#include <chrono>

#include "front.hpp"

namespace taper {

Call::Call(Front& front, std::uint64_t id) : front_(front), id_(id) {
  for (std::size_t i = 0; i < kSteps; ++i) tags_[i] = {this, static_cast<Step>(i)};
}

void* Call::begin(Step step) {
  if (!kept_) {
    kept_ = shared_from_this();
    front_.enter();
  }
  ++pending_;
  return &tags_[static_cast<std::size_t>(step)];
}

void Call::proceed(Step step, bool ok) {
  std::shared_ptr<Call> last;  // destroyed after the lock
  bool tell = false;
  if (step == Step::kArrived) {
    if (ok) {
      arrived();
    } else {
      const std::lock_guard lock(mutex_);
      ended_ = true;  // the server is stopping, and the tag of the call's end never comes
      --pending_;
    }
  } else if (step != Step::kEnded) {
    on(step, ok);
  }
  {
    const std::lock_guard lock(mutex_);
    --pending_;
    if (step == Step::kEnded) {
      ended_ = true;
      withdraw();
      tell = python_knows_;
    }
    if (ended_ && pending_ == 0) {
      release();
      last = std::move(kept_);
    }
  }
  if (tell) front_.events().put({EventKind::kEnded, id_});
  if (last) front_.leave();
}

bool Call::start_finishing() { return !over() && (finishing_ = true); }

void Call::finish(const Ending& ending) {
  const std::lock_guard lock(mutex_);
  if (!start_finishing()) return;
  for (const auto& [name, value] : ending.trailer) context().AddTrailingMetadata(name, value);
  start_finish(ending);
}

void Call::cancel() {
  const std::lock_guard lock(mutex_);
  if (!ended_) context().TryCancel();
}

void Call::note_call() {
  account_ = front_.account(info_.peer);
  account_->note_call();
}

double Call::remaining_s() {
  const auto deadline = context().deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) {
    return std::numeric_limits<double>::infinity();
  }
  const std::chrono::duration<double> left = deadline - std::chrono::system_clock::now();
  return left.count();
}

void Call::learn(std::string method) {
  info_.method = std::move(method);
  info_.remaining_s = remaining_s();
  for (const auto& [name, value] : context().client_metadata()) {
    info_.metadata.emplace_back(std::string(name.data(), name.size()),
                                std::string(value.data(), value.size()));
  }
}

std::optional<std::string> Call::client() const {
  std::optional<std::string_view> authorization;
  const auto& metadata = const_cast<Call*>(this)->context().client_metadata();
  const auto [first, end] = metadata.equal_range("authorization");
  if (first != end) {
    if (std::next(first) != end) return std::nullopt;
    authorization = std::string_view(first->second.data(), first->second.size());
  }
  return front_.clients().identify(info_.peer, authorization);
}

}  // namespace taper
